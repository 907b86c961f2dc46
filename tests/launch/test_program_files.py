"""An agent program that is edited while its run goes on is named."""

from pathlib import Path

import pytest

from aworld.config import AgentProgram
from aworld.launch import program_files

pytestmark = pytest.mark.unit


def test_what_changed_since_the_run_began_is_named_and_the_rest_is_not(tmp_path: Path) -> None:
    venv, script = tmp_path / "venv", tmp_path / "agent.py"
    (venv / "lib" / "__pycache__").mkdir(parents=True)
    library = venv / "lib" / "library.py"
    for file in (library, script):
        file.write_text("one")
    program = AgentProgram([str(script)], "", [str(venv), str(script)])
    assert program_files.keep(program, tmp_path / "own") == []
    (venv / "lib" / "__pycache__" / "library.pyc").write_text("compiled")
    assert program_files.keep(program, tmp_path / "own") == []
    library.write_text("another")
    (line,) = program_files.keep(program, tmp_path / "own")
    assert line.startswith(f"agent.program: {venv} changed since the run began") and "name=…" in line
    script.unlink()
    script.write_text("1 two")
    assert len(program_files.keep(program, tmp_path / "own")) == 2
    image = tmp_path / "image.sif"
    image.write_text("x")
    more = AgentProgram([str(script)], str(image), [])
    assert program_files.keep(more, tmp_path / "own") == []  # it is noted from now on
    image.write_text("xy")
    assert len(program_files.keep(more, tmp_path / "own")) == 1
    assert program_files.keep(AgentProgram(), tmp_path / "none") == [] and not (tmp_path / "none").exists()
