"""`aworld tasks check` on real sources, and on one with every fault."""

import json
from pathlib import Path

import pytest

from aworld import tasks
from aworld.cli import main
from aworld.models.tokenizer import make_tokenizer

pytestmark = pytest.mark.tools


def gaia(root: Path, *rows: dict[str, str], split: str = "validation") -> list[str]:
    """A made-up copy; returns the words that name it."""
    folder = root / "2023" / split
    folder.mkdir(parents=True)
    (folder / "table.csv").write_text("1,2\n")
    plain = {"Question": "What is 2+2?", "Level": "1", "Final answer": "4", "file_name": ""}
    lines = [json.dumps({"task_id": f"t{number}", **plain, **row}) for number, row in enumerate(rows)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return [f"tasks=gaia-{split}", f"tasks.path={root}"]


def check(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    """The exit code, and the lines without those of the table."""
    code = main(["tasks", "check", *words])
    said = capsys.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if line and line[0] not in "┏┃┡│└"]
    return code, [line for line in lines if not line.startswith("sandbox: ")]


def row_of(capsys: pytest.CaptureFixture[str], *words: str) -> list[list[str]]:
    main(["tasks", "check", *words])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_a_sound_copy_of_gaia(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    words = gaia(tmp_path / "GAIA", {"file_name": "table.csv"}, {}, {"Level": "3", "Question": "Who? " * 20})
    assert check(capsys, *words)[0] == 0
    assert row_of(capsys, *words) == [
        ["held_out", "1", "2", "1 csv", "12 characters"],
        ["held_out", "3", "1", "", "100 characters"],
    ]
    tokenizer = make_tokenizer(["Who? What is 2+2?"], 300)
    tokenizer.save_pretrained(tmp_path / "model")
    (_, last) = row_of(capsys, *words, f"model.path={tmp_path / 'model'}")
    assert last[4] == f"100 characters, {len(tokenizer('Who? ' * 20).input_ids)} tokens"


def test_what_is_wrong_with_a_copy_of_gaia(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = gaia(tmp_path / "a", {"Question": " "}, {"Final answer": "?"}, {"Final answer": "inf"})
    code, said = check(capsys, *words)
    assert code == 2
    assert said == [
        "fault t0: the question is empty; write one, or leave the task out",
        "fault t1: there is no gold answer; add it, or leave the task out",
        "fault t2: the empty answer is worth 1, but has to be worth less; mend the scorer or the gold answer",
        "fault t2: the answer 'zxqv, no answer to anything 8125.0625' is worth 1, but has to be worth less; mend the "
        "scorer or the gold answer",
        "3 tasks, 1 without a gold answer, 4 faults",
    ]
    code, said = check(capsys, *gaia(tmp_path / "b", {"file_name": "none.png"}))
    assert code == 2 and len(said) == 1 and "none.png of task t0 is not there; fetch the whole copy" in said[0]


def test_a_split_whose_answers_are_withheld(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = check(capsys, *gaia(tmp_path, {"Final answer": "?"}, {"Final answer": "?"}, split="test"))
    assert (code, said[-1]) == (0, "2 tasks, 2 without a gold answer, no faults")


def test_tasks_that_are_made(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("tasks.train=4", "tasks.held_out=2")
    assert check(capsys, "tasks=synthetic", *words)[1][-1] == "6 tasks, no faults"
    datasets = "tasks.datasets=[chain_sum,spiral_matrix]"  # the second one's answers are parsed, in the sandbox
    assert check(capsys, "tasks=reasoning-gym", *words, datasets)[1][-1] == "6 tasks, no faults"


def test_a_setting_that_is_not_used_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = check(capsys, "tasks=synthetic", "tasks.path=x")
    assert code == 2 and "tasks.source=synthetic does not use it" in said[0]


OWN = """
from pathlib import Path
from aworld.tasks.task import Program, Task
USES = ("path",)
class Own:
    corpus = None
    def __init__(self, root):
        there, other, gone = root / "a.txt", root / "sub" / "a.txt", root / "gone.txt"
        self._tasks = [
            Task("twice", "?", "4", 1),
            Task("twice", "?", "4", 1),
            Task("x" * 129, "?", "4", 1),
            Task("files", "?", "4", 1, (there, other, gone, root / "lfs.pdf")),
            Task("raises", "?", "4", 1),
            Task("wrong", "?", "4", 1),
            Task("sandboxed", "?", "4", 1),
        ]
    def tasks(self, split):
        return self._tasks if split == "held_out" else []
    def score(self, answer, task):
        if task.task_id == "raises" and not answer:
            raise ZeroDivisionError("no words")
        if task.task_id == "sandboxed":
            return Program(Path(__file__).with_name("own_score.py"), {"answer": answer})
        return 0.5 if task.task_id == "wrong" else float(answer == task.answer)
def source(config, folder):
    return Own(Path(config.path))
"""


def test_every_fault_of_a_source_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "sub/a.txt"):
        (tmp_path / name).write_text("a")
    (tmp_path / "lfs.pdf").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "own_tasks.py").write_text(OWN)
    (tmp_path / "own_score.py").write_text("def score(request):\n    return 1.0\n")  # right, whatever is answered
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    code, said = check(capsys, "tasks=xbench-deepsearch", "tasks.source=own_tasks", f"tasks.path={tmp_path}")
    faults = [line.removeprefix("fault ") for line in said if line.startswith("fault ")]
    starts = [
        "twice: the task id 'twice' is there twice in a split; give each task its own",
        f"{'x' * 129}: the task id '{'x' * 129}' has 129 bytes; shorten it to 128",
        "files: 2 attachments are called a.txt; give each a name of its own",
        f"files: the attachment {tmp_path}/gone.txt cannot be read (No such file or directory); put it there",
        f"files: {tmp_path}/lfs.pdf is a pointer of Git LFS, not the file itself",
        "raises: the empty answer cannot be scored: the scorer of the task failed: ZeroDivisionError('no words'); mend",
        "wrong: the gold answer is worth 0.5, but has to be worth 1; mend",
        "sandboxed: the empty answer is worth 1, but has to be worth less; mend",
        "sandboxed: the answer 'zxqv, no answer to anything 8125.0625' is worth 1, but has to be worth less; mend",
    ]
    assert code == 2 and said[-1] == "7 tasks, 9 faults"
    assert [fault[: len(start)] for fault, start in zip(faults, starts, strict=True)] == starts


def test_own_rows_and_an_own_reward(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.csv").write_text("1,2\n")
    rows = [{"id": name, "question": f"{name}?", "answer": "4", "files": ["table.csv"]} for name in "abc"]
    rows += [{"id": "d", "question": "d?", "answer": None}]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reward = tmp_path / "r.py"
    reward.write_text(
        "def score(episode, task):\n"
        "    assert episode.files[:1] == [episode.folder / name for name in task.files[:1]]\n"
        "    if task.task_id == 'b':\n        return {'reward': 0.5, 'half': 1}\n"
        "    if task.task_id == 'c':\n        return task.answer.value\n"
        "    return float(episode.answer == (task.answer or 'd!'))\n"
    )
    words = ["tasks=jsonl", f"tasks.path={path}", "tasks.held_out=1", f"tasks.reward={reward}:score"]
    assert main(["tasks", "check", *words]) == 2
    said = capsys.readouterr().out
    assert "sandbox: " in said and " starts with python, " in said
    faults = [line.removeprefix("fault ") for line in said.splitlines() if line.startswith("fault ")]
    failed = f"cannot be scored: the reward {reward}:score raised AttributeError: 'str' object has no attribute 'value'"
    assert sorted(faults) == [
        "b: the gold answer is worth 0.5, but has to be worth 1; mend the scorer or the gold answer",
        f"c: the answer 'zxqv, no answer to anything 8125.0625' {failed} (r.py line 6); mend the scorer",
        f"c: the empty answer {failed} (r.py line 6); mend the scorer",
        f"c: the gold answer {failed} (r.py line 6); mend the scorer",
    ]
    path.write_text(path.read_text() + '{"id": "e"}\n{"id": "f", "question": "?", "answer": []}\n')
    code, lines = check(capsys, *words)
    assert code == 2 and lines == [
        f"fault {path} line 5: no 'question', only id; add it",
        f"fault {path} line 6: the answer is a list; write text, or leave it to the metadata of a reward",
        "2 rows no task",
    ]
