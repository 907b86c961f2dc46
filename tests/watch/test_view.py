"""The view of a run that `aworld watch` draws: its members, its jobs, and pages made of nothing else."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, Group
from unplayed_run import hold
from watched_run import watched_run

from aworld.publish import append_json, publish_text
from aworld.rundir import open_run
from aworld.watch.heads import Heads
from aworld.watch.jobs import Jobs, rows_of
from aworld.watch.members import RUNNING, workers
from aworld.watch.page import PAGES, page
from aworld.watch.view import Watched

pytestmark = pytest.mark.unit


def test_pages_are_drawn_from_a_look_and_no_file(tmp_path: Path) -> None:
    made, _ = watched_run(tmp_path)
    config, run = open_run(made.root)
    stage = {"stage": "rollout", "elements": [0, 1], "name": "run.rollout"}
    append_json(run.jobs, stage | {"job": "78"})
    publish_text(run.starts / "78_1.tries", "1\n2\n3\n")
    rows = rows_of(run, {"rollout": Counter(RUNNING=2)})
    assert [(row.job, row.restarts) for row in rows] == [("78", 1 + 2)]
    append_json(run.starts / "rollout-0.jsonl", {"job": "78"})
    assert rows_of(run, {"rollout": Counter(RUNNING=2)})[0].restarts == 2 + 2
    view = replace(Watched(config, run).look(), jobs=rows)
    shutil.rmtree(run.root)
    for width, height in ((100, 30), (300, 50), (12, 12), (6, 8), (6, 3)):
        console = Console(width=width, height=height, force_terminal=True)
        for name in PAGES:
            first, second = (page(view, name, 0, console, note)[0] for note in ("", "late"))
            assert isinstance(first, Group) and isinstance(second, Group)
            body, again = (each.renderables[3:-1] for each in (first, second))
            kept = [one is other for one, other in zip(body, again, strict=True)]
            assert all(kept[:1]), name  # below them may be empty lines
            with console.capture() as capture:
                console.print(first)
            if (name, width) == ("stages", 300):
                assert "2 running" in capture.get() and "78" in capture.get()


def test_no_lock_is_tried_on_slurm(tmp_path: Path) -> None:
    made, played = watched_run(tmp_path)
    config, run = open_run(made.root)
    with hold(run, "rollout-0") as holder:

        def states() -> list[str]:
            heads = Heads(played.folder / "journals")
            return [member.state for member in workers(config, run, played, heads, Jobs())]

        assert RUNNING in states()
        config.site.executor = "slurm"
        assert RUNNING not in states()
        holder.terminate()
