"""A benchmark from its beginning to its figures, and the commands that show them."""

import base64
import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from evaluation_cases import NAME, SAID, episode, finish, wanted

from aworld import config as configuration
from aworld.cli import main
from aworld.errors import InputError
from aworld.evaluation import benchmark, figures
from aworld.publish import publish_json, publish_text
from aworld.rollout.units import is_closed, units_left
from aworld.rundir import RunDir
from aworld.tasks.task import TaskSource
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit


@pytest.fixture
def judge() -> Iterator[ThreadingHTTPServer]:
    """A judge that changed its mind since the attempts were played."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            reply = json.dumps({"choices": [{"message": {"content": "correct: no"}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = asked  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_what_was_judged_is_not_judged_again(judge: ThreadingHTTPServer, tmp_path: Path) -> None:
    text = base64.b64encode(bytes(a ^ b for a, b in zip(b"four", b"key!", strict=True))).decode()
    (tmp_path / "x.csv").write_text(f"id,prompt,answer,reference_steps,canary\n1,{text},{text},,key!\n", "utf-8-sig")
    run, name = RunDir(tmp_path / "run"), "xbench-deepsearch"
    words = [f"tasks={name}", f"tasks.path={tmp_path / 'x.csv'}", "evaluation.attempts=3", "tasks.judge.model=m"]
    words += [f"tasks.judge.base_url=http://127.0.0.1:{judge.server_port}/v1", "tasks.judge.key_variable=NO_SUCH_KEY"]
    benchmark.begin(configuration.changed(configuration.load(["recipe=demo"]), words), run, name, 3)
    with Journal(run.evaluation(name, 3) / "journals" / "worker-0.journal") as log:
        for attempt in range(3):
            log.append(replace(episode("a", 0), task_id="xbench-1", attempt=attempt, answer="4", reward=1.0))
    for kind, *files in (["report"], ["curve", "c.svg"], ["export", "l.jsonl"]):
        output = [word for file in files for word in ("--output", str(tmp_path / file))]
        assert main(["eval", kind, str(run.root), name, "3", *output]) == 0
    assert json.loads((run.evaluation(name, 3) / "report.json").read_text())["majority"] == 1.0
    assert judge.asked == []  # type: ignore[attr-defined]


def test_what_is_not_finished_is_not_compared_and_said_of_every_figure(
    run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"{NAME}-3 of {run.root} is not finished: 5 of 20 attempts are not played; go on with: "
    line += f"aworld launch evaluate {run.root} --policy 3 --name {NAME}"
    assert main(["eval", "compare", str(run.root), NAME, "3", "4"]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"
    for kind, *file in (["report"], ["export", "answers.jsonl"], ["curve", "curve.svg"]):
        output = [word for name in file for word in ("--output", str(tmp_path / name))]
        assert main(["eval", kind, str(run.root), NAME, "3", *output]) == 0
        assert capsys.readouterr().err == f"warning: {line}\n"
    assert "5 of 20 attempts are not played" in (run.evaluation(NAME, 3) / "report.html").read_text()
    finish(run)
    assert main(["eval", "report", str(run.root), NAME, "3"]) == 0
    assert capsys.readouterr().err == ""


def test_without_gold_answers_there_is_no_score(gaia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the test split, whose answers are the leaderboard's."""
    from aworld.watch.status import Tally, on_benchmark, tally

    (gaia / "2023" / "test").mkdir()
    text = (gaia / "2023" / "validation" / "metadata.jsonl").read_text()
    rows = [{**json.loads(line), "Final answer": "?"} for line in text.splitlines()]
    path = gaia / "2023" / "test" / "metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run, name = RunDir(tmp_path / "run"), "gaia-test"
    benchmark.begin(wanted(gaia, f"tasks={name}", f"tasks.path={gaia}", "evaluation.attempts=1"), run, name, 3)
    with Journal(run.evaluation(name, 3) / "journals" / "worker-0.journal") as log:
        for task in "abcde":
            log.append(replace(episode("a", 0), task_id=task, reward=0.0, answer=None if task == "e" else "x"))
    assert main(["eval", "report", str(run.root), name, "3"]) == 0
    told = capsys.readouterr().out
    assert "4 of 5 attempts answered; no gold answers are here" in told and "%" not in told and "wrong" not in told
    found = json.loads((run.evaluation(name, 3) / "report.json").read_text())
    assert (found["measure"], found["n_withheld"]) == (None, 5) and not {"pass_at_1", "mean_reward"} & found.keys()
    page = (run.evaluation(name, 3) / "report.html").read_text()
    assert "none is scored" in page and "pass@1" not in page and "0 of 1 right" not in page
    for words in (["compare", "3"], ["curve", "--output", "unused.svg"]):
        assert main(["eval", words[0], str(run.root), name, "3", *words[1:]]) == 2
        assert "the gold answers of " in capsys.readouterr().err
    assert main(["eval", "export", str(run.root), name, "3", "--output", str(tmp_path / "out.jsonl")]) == 0
    assert tally(on_benchmark(run, name, 3)) == Tally(played=5, total=5, failed=0, reward=None)

    path.write_text(
        "".join(json.dumps({**row, "Final answer": "x"} if row["task_id"] == "a" else row) + "\n" for row in rows)
    )
    some = figures.figures(benchmark.played(run, name, 3))
    assert (some["n_tasks"], some["n_withheld"], some["n_asked"], some["mean_reward"]) == (1, 4, 5, 0.0)
    assert some["failures"] == {"wrong_answer": 1}


def test_a_report_says_what_was_evaluated_and_how(gaia: Path, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    made_by = {"commit": "0123456789abcdef", "vllm": "1.2"}
    words = [
        "evaluation.temperature=0.25",
        "evaluation.endpoint.model=big",
        "evaluation.endpoint.base_url=http://one/v1",
    ]
    benchmark.begin(wanted(gaia, *words), run, NAME, 3, provenance=lambda: made_by)
    benchmark.begin(wanted(gaia, *words), run, NAME, 3, provenance=lambda: pytest.fail("it has begun"))
    with Journal(run.evaluation(NAME, 3) / "journals" / "worker-0.journal") as log:
        log.append(episode("a", 0))
    assert main(["eval", "report", str(run.root), NAME, "3"]) == 0
    found = json.loads((run.evaluation(NAME, 3) / "report.json").read_text())
    assert found["model"] == "big at http://one/v1" and found["provenance"].items() >= made_by.items()
    assert found["settings"]["evaluation"]["temperature"] == 0.25 and found["settings"]["seed"] == 0
    assert found["settings"]["environment"]["servers"] and found["settings"]["tasks"]["split"] == "validation"
    assert found["played"].startswith(time.strftime("%Y-%m", time.gmtime()))
    page = (run.evaluation(NAME, 3) / "report.html").read_text()
    for text in ("big at http://one/v1", "<dd>0.25</dd>", "<dd>0123456789ab</dd>", found["played"], "vllm 1.2"):
        assert text in page


def test_the_runs_own_tasks_are_reported_like_any_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from aworld.watch.show import show

    config = configuration.load(["recipe=demo", f"runs={tmp_path}", "name=run", "tasks.train=4", "tasks.held_out=3"])
    run = RunDir.of(config)
    publish_text(run.config, configuration.to_yaml(config) + 'provenance: {commit: "77"}\n')
    _, _, source = benchmark.read(run, "held-out")
    tasks = list(source.tasks("held_out"))
    for version in (0, 24):
        with Journal(run.evaluation("held-out", version) / "journals" / "worker-0.journal") as log:
            for task, attempt in itertools.product(tasks, range(config.evaluation.attempts)):
                one = replace(episode("a", 0), round=version, task_id=task.task_id, attempt=attempt)
                log.append(replace(one, reward=float(version == 24)))

    def told(*words: str) -> str:
        assert main(["eval", words[0], str(run.root), "held-out", *words[1:]]) == 0
        return capsys.readouterr().out

    assert told("report", "24").startswith("held-out-24: 3 tasks × 2, policy 24 of ")
    assert json.loads((run.evaluation("held-out", 24) / "report.json").read_text())["provenance"] == {"commit": "77"}
    assert told("compare", "0", "24").startswith("+100.0 points of pass@1")
    assert told("trace", "24", tasks[0].task_id, "--output", str(tmp_path / "t.json")).endswith("2 attempts\n")
    assert main(["eval", "report", str(run.root), "held-out", "9"]) == 2
    assert capsys.readouterr().err.endswith(f"do: aworld launch evaluate {run.root} --policy 9\n")
    show(run, f"held-out-24/{tasks[0].task_id}/1", Console(width=200))
    assert f"held-out-24 · {tasks[0].task_id} · attempt 1" in capsys.readouterr().out
    assert main(["show", str(run.root)]) == 0
    assert "held-out-24: 6 episodes\nthere are: held-out-0, 24\n" in capsys.readouterr().out


def test_tasks_that_are_refused_fix_nothing(run: RunDir, gaia: Path) -> None:
    def refuse(source: TaskSource) -> None:
        raise InputError("no corpus")

    with pytest.raises(InputError, match="no corpus"):
        benchmark.begin(wanted(gaia), run, "other", 3, check=refuse)
    assert not run.benchmark("other").exists() and not run.evaluation("other", 3).exists()


def test_data_that_was_moved_away_hides_its_benchmark_alone(run: RunDir, gaia: Path) -> None:
    from aworld.watch.status import begun

    shutil.rmtree(gaia)
    workloads, (said,) = begun(run)
    assert workloads == [] and said.startswith(f"{NAME} is left out: ")


def test_rows_and_rewards_that_are_edited_are_taken_anew_until_the_first_episode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, reward = tmp_path / "rows.jsonl", tmp_path / "mine.py"
    run, name = RunDir(tmp_path / "run"), "mine"
    words = ["tasks=jsonl", f"tasks.held_out_path={rows}", f"tasks.reward={reward}:score"]

    def begun(question: str, code: str) -> tuple[str, str]:
        rows.write_text(json.dumps({"id": "a", "question": question, "answer": "4"}) + "\n")
        reward.write_text(code)
        benchmark.begin(configuration.changed(configuration.load(["recipe=demo"]), words), run, name, 0)
        (task,) = benchmark.read(run, name)[2].tasks("held_out")
        return task.question, (run.benchmark(name).parent / "own" / "mine.py").read_text()

    assert begun("one?", "def score(e, t): return 1") == ("one?", "def score(e, t): return 1")
    assert begun("another?", "def score(e, t): return 0") == ("another?", "def score(e, t): return 0")
    assert "note:" not in capsys.readouterr().err
    with Journal(run.evaluation(name, 0) / "journals" / "worker-0.journal") as log:
        log.append(replace(episode("a", 0), task_id="a", attempt=0))
    assert begun("third?", "def score(e, t): return 2") == ("another?", "def score(e, t): return 0")
    said = capsys.readouterr().err
    assert f"note: {rows} changed since" in said and f"note: {reward} was edited since the run began" in said


def test_more_attempts_may_be_asked_for_later(run: RunDir, gaia: Path) -> None:
    from aworld.watch.status import on_benchmark

    for version in (3, 4):  # they were over
        publish_json(run.evaluation(NAME, version) / "timing.json", {})
        (run.evaluation(NAME, version) / "closing").mkdir()
    benchmark.begin(wanted(gaia), run, NAME, 3)
    assert is_closed(on_benchmark(run, NAME, 3))
    benchmark.begin(wanted(gaia, "evaluation.attempts=8"), run, NAME, 3)
    for version in (3, 4):
        workload = on_benchmark(run, NAME, version)
        assert (workload.attempts, is_closed(workload), len(units_left(workload))) == (8, False, 5)
        assert not (workload.folder / "closing").exists()
    assert benchmark.played(run, NAME, 3).missing == 8 * 5 - 15
    with pytest.raises(InputError, match=r"evaluation.attempts=8, now it is 4; use the same or more of them, or"):
        benchmark.begin(wanted(gaia), run, NAME, 3)


def test_a_teacher_is_compared_under_its_own_name(
    run: RunDir, gaia: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the same run, and from another one."""
    finish(run)
    for at in (run, RunDir(tmp_path / "other")):
        benchmark.begin(wanted(gaia, "evaluation.attempts=1"), at, "big-teacher", 0)
        with Journal(at.evaluation("big-teacher", 0) / "journals" / "worker-0.journal") as log:
            for task in SAID:
                log.append(replace(episode(task if task != "d" else "a", 0), task_id=task, round=0, reward=1.0))
    for words in ([], ["--with", str(tmp_path / "other")]):
        assert main(["eval", "compare", str(run.root), NAME, "3", "big-teacher-0", *words]) == 0
        assert capsys.readouterr().out.startswith("+65.0 points of pass@1, 95 % interval -")
    assert main(["eval", "compare", str(run.root), NAME, "3", "big-teacher"]) == 2
    assert "'big-teacher' names no policy; write its version, or NAME-VERSION" in capsys.readouterr().err


def test_tasks_that_are_not_the_same_are_not_compared(run: RunDir) -> None:
    """Another question under the same id, as another seed generates it, is another task."""
    one = benchmark.played(run, NAME, 3)
    other = replace(one, tasks=[replace(one.tasks[0], question="Another?"), *one.tasks[1:]])
    with pytest.raises(InputError, match=r"not the same cannot be paired: 5 and 5, of which 4 are in both$"):
        figures.compare(one, other)
    with pytest.raises(InputError, match=r"cannot be paired: 5 and 3, of which 3 are in both$"):
        figures.compare(one, replace(one, tasks=one.tasks[:3]))


def test_the_commands(run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        assert main(["eval", words[0], str(run.root), NAME, *words[1:]]) == 0
        return capsys.readouterr().out

    assert told("trace", "3", "a", "--output", str(tmp_path / "trace.json")).endswith(": 4 attempts\n")
    assert len([e for e in json.loads((tmp_path / "trace.json").read_text())["traceEvents"] if e["ph"] == "M"]) == 4
    assert main(["eval", "trace", str(run.root), NAME, "3", "z", "--output", "unused"]) == 2
    assert "policy 3 has not played a task 'z'" in capsys.readouterr().err
    report = told("report", "3")
    assert "35.0%" in report and "level 2" in report and "5 not played" in report
    assert json.loads((run.evaluation(NAME, 3) / "report.json").read_text())["n_tasks"] == 5
    page = (run.evaluation(NAME, 3) / "report.html").read_text()
    assert page.count(' data-attempt="') == 15 and page.count("not played</span>") == 5 and "<svg" in page
    assert "5 tasks, 4 with an answer" in told("export", "3", "--output", str(tmp_path / "out.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["task_id"] for line in lines] == list(SAID)
    assert lines[3] == {"task_id": "d", "model_answer": "", "reasoning_trace": ""}
    assert lines[0]["reasoning_trace"] == "I say 12"
    finish(run)
    assert told("compare", "3", "4").startswith("+5.0 points of pass@1, 95 % interval -")
    told("curve", "3", "--output", str(tmp_path / "curve.svg"))
    assert (tmp_path / "curve.svg").read_text().startswith("<svg")


def test_a_benchmark_keeps_the_settings_it_was_begun_with(run: RunDir, gaia: Path) -> None:
    benchmark.begin(wanted(gaia, "site.mpi=pmix"), run, NAME, 0)  # the site decides nothing
    with pytest.raises(InputError, match=r"was begun with evaluation.attempts=4, now it is 2"):
        benchmark.begin(wanted(gaia, "evaluation.attempts=2"), run, NAME, 0)
    with pytest.raises(InputError, match="no benchmark 'gaia-test' in"):
        benchmark.played(run, "gaia-test", 3)
    with pytest.raises(InputError, match="policy 9 was not evaluated on gaia-validation"):
        benchmark.played(run, NAME, 9)


def test_a_person_finds_its_episodes_and_where_it_is(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from aworld.watch.listing import show_list
    from aworld.watch.search import Search
    from aworld.watch.show import show
    from aworld.watch.status import begun

    console = Console(width=200)
    show_list(run, f"{NAME}-3", Search(), 0, console)
    assert f"{NAME}-3: 15 episodes" in capsys.readouterr().out
    show(run, f"{NAME}-4/d/0", console)
    assert "answer '7' · reward 1" in capsys.readouterr().out
    with pytest.raises(InputError, match=f"no episode {NAME}-4/d/9"):
        show(run, f"{NAME}-4/d/9", console)
    begun = {workload.name: len(units_left(workload)) for workload in begun(run)[0]}
    assert begun == {f"{NAME}-0": 5, f"{NAME}-3": 5, f"{NAME}-4": 5}  # no unit was marked done
