"""The user's own parts: files and entry points, the copies that a run keeps, and the line where one fails."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from aworld import plugins
from aworld.config import Config, Tasks
from aworld.errors import InputError

pytestmark = pytest.mark.unit


def own(folder, text, name="mine.py"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def load(name, copies=None):
    return plugins.load(name, setting="tasks.source", group="aworld.tasks", copies=copies)


def test_a_file_s_object_is_loaded_and_knows_what_lies_beside_the_file(tmp_path):
    text = (
        "from dataclasses import dataclass\nfrom pathlib import Path\n"
        "@dataclass\nclass Row:\n    text: str = Path(__file__).with_name('rows.txt').read_text()\n"
    )
    path = own(tmp_path, text)
    (tmp_path / "rows.txt").write_text("a row")
    assert load(f"{path}:Row")().text == "a row"
    assert not (tmp_path / "__pycache__").exists()


def test_the_copy_is_what_a_run_loads_and_an_edit_is_said_in_one_line(tmp_path):
    path, copies = own(tmp_path, "make = 'as it was'"), tmp_path / "run" / "own"
    was = hashlib.sha256(path.read_bytes()).hexdigest()
    names = {"tasks.source": f"{path}:make", "tasks.reward": f"{path}:other", "training.algorithm": "grpo"}
    assert plugins.keep(names, copies) == []
    assert json.loads((copies / "files.json").read_text()) == {str(path): {"copy": "mine.py", "sha256": was}}
    path.write_text("make = 'edited'")
    (line,) = plugins.keep({"tasks.source": f"{path}:make"}, copies)
    assert "was edited since the run began" in line and str(copies / "mine.py") in line and "\n" not in line
    assert load(f"{path}:make", copies) == "as it was"
    assert load(f"{path}:make") == "edited"
    path.unlink()
    assert "is gone" in plugins.keep({"tasks.source": f"{path}:make"}, copies)[0]
    assert load(f"{path}:make", copies) == "as it was"


def test_two_files_of_one_name_have_a_copy_each(tmp_path):
    first, second = own(tmp_path, "make = 1", "a/mine.py"), own(tmp_path, "make = 2", "b/mine.py")
    plugins.keep({"tasks.source": f"{first}:make", "tasks.reward": f"{second}:make"}, tmp_path / "own")
    assert [load(f"{path}:make", tmp_path / "own") for path in (first, second)] == [1, 2]


def test_a_relative_path_is_made_absolute_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plugins.absolute("mine.py:make") == f"{tmp_path}/mine.py:make"
    assert plugins.absolute("mine.py") == f"{tmp_path}/mine.py"
    own(tmp_path, "make = 1")
    plugins.keep({"tasks.reward": "mine.py:make"}, Path("run/own"))
    assert plugins.copy_of(Path("mine.py"), Path("run/own")) == tmp_path / "run" / "own" / "mine.py"  # from any folder
    assert plugins.absolute("gaia") == "gaia"


def test_a_name_may_be_understood_and_a_configuration_is_searched_for_files(tmp_path):
    path = own(tmp_path, "make = 'understood'")
    config = Config(name="x", tasks=Tasks(source="gaia"))
    config.training.algorithm = str(path)
    config.agent.system_prompt = "Save your program as main.py"  # no part
    assert plugins.named(config) == {"training.algorithm": str(path)}
    plugins.keep(plugins.named(config), tmp_path / "own")
    assert plugins.load(str(path), setting="training.algorithm", group="x", default="make") == "understood"


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (None, "mine.py:make", "mine.py cannot be read (No such file or directory); mend the path"),
        ("rows = []", "mine.py:make", "mine.py has no make; it has rows"),
        ("rows = []", "mine.py", "name what the file holds: {folder}/mine.py:NAME"),
        ("import json\n\nx = {}['y']", "mine.py:x", "mine.py line 3: KeyError: 'y'; mend the file"),
        ("def f(:\n", "mine.py:f", "mine.py line 1: SyntaxError"),
        ("raise SystemExit(3)", "mine.py:f", "mine.py line 1: SystemExit: 3"),
    ],
)
def test_each_fault_of_a_file_is_one_line(tmp_path, text, name, said):
    if text is not None:
        own(tmp_path, text)
    with pytest.raises(InputError, match=r"tasks\.source=") as error:
        load(f"{tmp_path}/{name}")
    assert said.format(folder=tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_an_entry_point_of_an_installed_package_is_found_and_others_are_listed(tmp_path, monkeypatch):
    own(tmp_path, "make = 'from a package'", "own_package.py")
    own(tmp_path, "Metadata-Version: 2.1\nName: own\nVersion: 1\n", "own-1.dist-info/METADATA")
    own(tmp_path, "[aworld.tasks]\nquiz = own_package:make\n", "own-1.dist-info/entry_points.txt")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert load("quiz") == "from a package"
    with pytest.raises(InputError, match=r"no entry point of that name in aworld.tasks \(.*quiz.*\)"):
        load("quizz")
