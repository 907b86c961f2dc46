"""A gold answer that nobody can guess is found with the worker that scores, and nowhere else."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from endpoint_model import Model, begin, call, made_up_copy, prepare, records, worker

from aworld.environments.sandbox import choose
from aworld.rundir import RunDir

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]
GOLD = "zx-gold-7f3a91-answer"
HUNT = r"""
import os, pathlib
copy = {copy!r}
print("copy", os.path.exists(copy))
print("attached", open("table.csv").read())
hits = []
places = [pathlib.Path(where, name) for root in {roots!r}
          for where, _, names in os.walk(root) for name in names]
for path in [*places, *pathlib.Path("/proc").glob("[0-9]*/environ"), *pathlib.Path("/proc").glob("[0-9]*/cmdline")]:
    try:
        if path.is_file() and path.stat().st_size < 1 << 20 and {half!r} + {rest!r} in path.read_text("latin1"):
            hits.append(str(path))
    except OSError:
        pass
print("hits", hits)
print("environment", dict(os.environ))
for folder in (".", "/", "/tmp", os.path.expanduser("~")):  # last, as the host's own may be cut for length
    print(folder, sorted(os.listdir(folder)))
"""
# Some machines show tens of thousands of files, which are read from the disk at worst.
LONG = ("environment.result_chars=100000", "environment.call_seconds=240")
ROOTS = (".", "/tmp", "/var/tmp", "/dev/shm", "/home", "/root", "/etc")


def hunt(copy: Path, *roots: str) -> str:
    """Code that prints what it can see; the answer is not in it in one piece."""
    return HUNT.format(copy=str(copy), roots=roots, half=GOLD[:9], rest=GOLD[9:])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return prepare(tmp_path_factory.mktemp("runs"))


def copy_in(folder: Path) -> Path:
    rows = [{"task_id": "a", "Question": "Look around.", "Final answer": GOLD, "file_name": "table.csv"}]
    return made_up_copy(folder / "GAIA", rows, {"table.csv": "1,2\n"})


def test_the_gold_answer_enters_no_prompt_no_sandbox_and_no_record(run: RunDir, tmp_path: Path) -> None:
    if choose("auto", "").name == "subprocess":
        pytest.skip("no sandbox works here that hides files")
    copy, scratch = copy_in(tmp_path), tmp_path / "scratch"
    scratch.mkdir()
    seen: list[str] = []

    def says(body: dict[str, Any]) -> dict[str, Any]:
        seen.extend(path.read_text(errors="replace") for path in scratch.rglob("*") if path.is_file())
        if sum(message["role"] == "tool" for message in body["messages"]) == 0:
            return call(hunt(copy, *ROOTS))
        return {"content": "FINAL ANSWER: I cannot tell"}

    with Model(says) as model:
        begin(
            run,
            copy,
            f"site.scratch={scratch}",
            *LONG,
            *model.words,
        )
        done = subprocess.run(worker(run), capture_output=True, text=True, check=False)
        model.shutdown()
    assert done.returncode == 0, done.stderr
    record, _ = records(run)
    result = record.turns[2].text
    assert record.reward == 0.0 and record.answer == "I cannot tell"
    assert "copy False" in result and "hits []" in result and "attached 1,2" in result, result
    assert len(model.asked) == 4 and len(seen) >= 2  # the attachment was in the scratch
    written = [path for path in run.root.rglob("*") if path.is_file()]
    assert {"worker-0.journal", "config.yaml", "timing.json"} <= {path.name for path in written}
    told = [str(model.asked), *seen, done.stdout, done.stderr]
    assert not [text[:200] for text in told if GOLD in text]
    assert not [path for path in written if GOLD.encode() in path.read_bytes()]


@pytest.mark.deep
def test_without_a_sandbox_a_benchmark_is_played_only_where_the_user_said_so(run: RunDir, tmp_path: Path) -> None:
    copy = copy_in(tmp_path)

    def says(body: dict[str, Any]) -> dict[str, Any]:
        looked = any(message["role"] == "tool" for message in body["messages"])
        return {"content": "FINAL ANSWER: 1"} if looked else call(hunt(copy, str(copy)))

    with tempfile.TemporaryDirectory() as nothing, Model(says) as model:
        again = RunDir(tmp_path / "run")
        shutil.copytree(run.root, again.root, symlinks=True, ignore=shutil.ignore_patterns("evals"))
        begin(again, copy, *LONG, *model.words)
        done = subprocess.run(
            worker(again), env=os.environ | {"PATH": nothing}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2 and not model.asked
        assert f"could read the answers in {copy}; install bubblewrap" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        begin(again, copy, "site.sandbox=subprocess", *LONG, *model.words)
        done = subprocess.run(worker(again), capture_output=True, text=True, check=False)
        model.shutdown()
    assert done.returncode == 0, done.stderr
    for record in records(again):  # there it does find the answer
        assert record.status == "answered" and "copy True" in record.turns[2].text
        assert f"hits ['{copy / '2023' / 'validation' / 'metadata.jsonl'}']" in record.turns[2].text
