"""The command line as a whole: what it says without a command, and what a shell completes."""

import argparse
import subprocess

import pytest
from unplayed_run import aworld

from aworld.cli import STAGES, parser

pytestmark = pytest.mark.unit


def test_without_a_command_it_says_how_a_run_begins() -> None:
    done = aworld()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert 6 <= len(lines) <= 10
    for command in ("aworld pipeline recipe=demo", "aworld status runs/demo", "aworld resume runs/demo"):
        assert any(command in line for line in lines)


def test_an_unknown_command_is_refused() -> None:
    done = aworld("statsu")
    assert done.returncode == 2 and "invalid choice: 'statsu'" in done.stderr


def completed(script: str, *words: str) -> list[str]:
    """What bash offers for the last word."""
    typed = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
    asked = typed + "; _shtab_aworld; printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=True)
    return sorted(done.stdout.split())


def test_bash_completes_commands_options_and_folders() -> None:
    script = aworld("completion", "bash").stdout
    assert completed(script, "aworld", "pr") == ["prefetch", "prepare", "prune"]
    assert completed(script, "aworld", "eval", "re") == ["report"]
    assert completed(script, "aworld", "prune", "runs/x", "--dry") == ["--dry-run"]
    assert "/usr/" in completed(script, "aworld", "status", "/us") or "/usr" in completed(
        script, "aworld", "status", "/us"
    )


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_too(shell: str) -> None:
    done = aworld("completion", shell)
    assert done.returncode == 0 and "dry-run" in done.stdout


def test_a_stage_has_its_command_without_the_other_rooms() -> None:
    whole, stages = (
        next(action.choices for action in parser(is_stage)._actions if isinstance(action, argparse._SubParsersAction))
        for is_stage in (False, True)
    )
    assert STAGES <= stages.keys() < whole.keys()
    assert "status" not in stages and stages["evaluate"].format_help() == whole["evaluate"].format_help()
