"""`aworld tasks check` on task folders: a solution that solves nothing and a test that all pass are named."""

from collections.abc import Callable
from pathlib import Path

import pytest
from task_folders import small_image, write_task

from aworld.cli import main

pytestmark = pytest.mark.tools


def test_what_is_wrong_with_scripts_is_named_with_their_last_words(
    tmp_path: Path, once: Callable[[str, Callable[[Path], None]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image = once("small-image", small_image) / "root"
    root = tmp_path / "tasks"
    write_task(root / "good")
    write_task(root / "bad", test="uvx pytest && echo 1 > /logs/verifier/reward.txt", solution="echo no idea")
    write_task(root / "easy", test="echo 1 > /logs/verifier/reward.txt; echo fine")
    write_task(root / "torn")
    images = tmp_path / "images"
    images.mkdir()
    for name in ("good", "bad", "easy"):
        (images / name).symlink_to(image)
    (images / "torn").write_bytes(b"no image")
    words = ["tasks=harbor", f"tasks.path={root}", f"tasks.image={images}/{{task}}", "tasks.held_out=0"]
    assert main(["tasks", "check", *words, "environment.servers=[terminal,files]"]) == 2
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith(f"fault torn: {images}/torn does not start here: ")
    assert said[-2].endswith("; build its image anew")
    assert [*said[-5:-2], said[-1]] == [
        f"sandbox: {images}/good starts with terminal, read_file",
        "fault bad: the solution is worth 0, but has to be worth 1 (solve.sh: no idea; test.sh: it gave no reward: "
        "exit status 127: /tests/test.sh: line 1: uvx: command not found); mend them, or put into the image what they "
        "would download",
        "fault easy: doing nothing is worth 1, but has to be worth 0 (test.sh: fine); mend the test",
        "4 tasks, 3 faults",
    ]
