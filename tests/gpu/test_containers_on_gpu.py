"""Which contained processes see the GPU: a program of ours in an image does, the policy's tools do not."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

# How many GPUs the driver gives this process, and the device files it can open; standard library alone.
PROBE = """
import ctypes, glob, json, os
count = ctypes.c_int(0)
try:
    driver = ctypes.CDLL("libcuda.so.1")
    driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
except OSError:
    pass  # no driver
def opens(path):
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError:
        return False
    return True
devices = [path for path in sorted(glob.glob("/dev/nvidia*") + ["/dev/dxg"]) if opens(path)]
print(json.dumps({"gpus": count.value, "devices": devices}))
"""


def seen(argv, **options):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def outside(card):
    """What a process on this machine sees."""
    found = seen([sys.executable, "-c", PROBE])
    assert found["gpus"] >= 1 and found["devices"]
    return found


@pytest.mark.parametrize("bind_python", [False, True], ids=["the image's Python", "this Python"])
def test_a_program_in_an_image_sees_the_gpus(bind_python, outside, apptainer, environment_image):
    """Also where LD_LIBRARY_PATH is set for the bound Python: the driver's library is found beside it."""
    from aworld.config import Site
    from aworld.containers import container_command

    site = Site("test", bind_python=bind_python)
    found = seen(container_command(site, str(environment_image), [sys.executable, "-c", PROBE], []))
    assert found["gpus"] == outside["gpus"]


def test_pytorch_computes_in_an_image(outside, apptainer, environment_image):
    """This Python and its PyTorch in an image that brings a system only, as with `site.bind_python`."""
    from aworld.config import Site
    from aworld.containers import container_command

    code = "import torch; print((torch.ones(512, 512, device='cuda') @ torch.ones(512, 1, device='cuda')).sum().item())"
    argv = container_command(Site("test", bind_python=True), str(environment_image), [sys.executable, "-c", code], [])
    assert seen(argv) == 512.0**2


@pytest.mark.parametrize("kind", ["apptainer", "bubblewrap", "subprocess"])
def test_a_tool_sees_the_gpus_only_where_the_sandbox_says_so(kind, outside, request, tmp_path):
    from aworld.config import Environment
    from aworld.environments.sandbox import Contents, choose
    from aworld.errors import InputError

    image = ""
    if kind == "apptainer":
        request.getfixturevalue("apptainer")
        image = str(request.getfixturevalue("environment_image"))
    try:
        sandbox = choose(kind, image)
    except InputError as reason:
        pytest.skip(str(reason))
    launch = sandbox.launch([sandbox.python, "-c", PROBE], Contents(tmp_path, Environment()))
    found = seen(launch.argv, env=launch.env, cwd=launch.cwd, start_new_session=True)
    if "GPUs" in sandbox.gaps:
        assert found["devices"] == outside["devices"]
    else:
        assert found == {"gpus": 0, "devices": []}
