"""The definitions and how they are built. What needs a registry of images is only parsed, and built on another base."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from spython.main.parse.parsers import get_parser

from aworld.errors import InfrastructureError, InputError
from aworld.launch import images

PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==", re.MULTILINE)


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


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
    locked = {normal(package) for package in PINNED.findall(images.LOCK.read_text())}
    lines = (images.DEFINITIONS / f"{name}.txt").read_text().splitlines()
    open_ = [line for line in lines if not line.startswith("#") and "==" not in line and normal(line) not in locked]
    assert not open_


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
    source = str(images.ROOT / "src")
    assert values == header | {"PYTHON": "3.12", "SOURCE": source}


@pytest.mark.unit
@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("environmnt", [], "no image 'environmnt'; valid: environment, megatron, vllm"),
        ("environment", [], "give BASE=.* or MIRROR="),
        ("environment", ["BASE=a.sif", "MIRROR=b"], "give BASE=.* or MIRROR="),
        ("vllm", [], "give BASE="),
        ("vllm", ["MIRROR=b"], "nothing is called 'MIRROR'; valid: BASE, PYTHON, WHEELS"),
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
    assert any("Successfully installed" in line and "rich" in line for line in shown)
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
