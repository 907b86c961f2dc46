"""The words of a single stage: each reaches the job, or is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.errors import InputError
from aworld.evaluation import benchmark
from aworld.rundir import RunDir
from aworld.tasks import make_source
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
WORDS = "recipe=demo site=local name=run tasks.train=8 tasks.held_out=2 pipeline.rounds=0 training.cold_start.tasks=0"


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that holds policy 0, and a benchmark's made-up copy beside it."""
    folder = tmp_path_factory.mktemp("runs")
    done = python("-m", "aworld", "prepare", *WORDS.split(), f"runs={folder}")
    assert done.returncode == 0, done.stderr
    for split in ("validation", "test"):
        (folder / "GAIA" / "2023" / split).mkdir(parents=True)
        row = {"task_id": "a", "Question": "?", "Level": 1, "Final answer": "4", "file_name": ""}
        (folder / "GAIA" / "2023" / split / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    return RunDir(folder / "run")


def launch(stage: str, run: RunDir, *words: str) -> subprocess.CompletedProcess[str]:
    number = "--policy" if stage == "evaluate" else "--round"
    return python(f"jobs/{stage}.py", str(run.root), number, "0", *words)


def play_one(run: RunDir, name: str) -> None:
    """An episode of a benchmark, as a worker records it."""
    episode = Episode(
        round=0,
        task_id="a",
        attempt=0,
        level=1,
        question="?",
        token_ids=[1, 2],
        mask=[0, 1],
        logprobs=[0.0, -0.5],
        turns=[Turn("assistant", "4")],
        answer="4",
        reward=1.0,
        status="answered",
        seconds={"total": 1.0},
        policy_version=0,
        seed=0,
    )
    with Journal(run.evaluation(name, 0) / "journals" / "worker-0.journal") as log:
        log.append(episode)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("stage", "word", "was"),
    [
        ("evaluate", "evaluation.attempts=8", "evaluation.attempts=2"),
        ("evaluate", "agent.context=drop", "agent.context=append"),
        ("evaluate", "site.sandbox=subprocess", "site.sandbox=auto"),
        ("rollout", "rollout.infra_retries=9", "rollout.infra_retries=2"),
        ("train", "training.lr=1.0", "training.lr="),
        ("train", "site.train.tasks_per_node=4", "site.train.tasks_per_node=2"),
        ("rollout", "tasks=reasoning-gym", "tasks.source=synthetic"),
    ],
)
def test_a_word_that_would_not_reach_the_job_is_refused(run: RunDir, stage: str, word: str, was: str) -> None:
    told = refused(launch(stage, run, word, "--dry-run"))
    assert "does not reach the job" in told and f"{run.config}: {was}" in told
    assert ("--name" in told) is (stage == "evaluate")


def test_words_of_the_site_are_the_launchers(run: RunDir) -> None:
    words = ["site.executor=slurm", "site.evaluate.minutes=7", "site.account=mine", "evaluation.attempts=2"]
    done = launch("evaluate", run, *words, "--dry-run")
    assert "--time=7" in done.stdout and "--account=mine" in done.stdout, done.stderr
    # no Slurm here has such an account, if there is one, and it was asked; only then is it the site's fault
    refused = done.returncode == 2 and "Slurm would refuse evaluate-0000" in done.stderr
    away = done.returncode == 4 and "Slurm does not answer here" in done.stderr and "mend site" not in done.stderr
    assert refused or away or "no sbatch on PATH" in done.stderr


def test_another_split_under_a_name_that_was_played_is_refused(run: RunDir) -> None:
    begun = [f"tasks.path={run.root.parent / 'GAIA'}", "evaluation.attempts=3", "environment.servers=[python]"]

    def begin(*words: str) -> subprocess.CompletedProcess[str]:
        return launch("evaluate", run, "--name", "mine", "--begin-only", *words)

    assert begin("tasks=gaia-validation", *begun).returncode == 0
    play_one(run, "mine")
    told = refused(begin("tasks=gaia-test"))
    assert "mine was begun with tasks=gaia-validation, not tasks=gaia-test; give the other one another --name" in told
    for words in ([], ["tasks=gaia-validation"], ["rollout.infra_retries=5"]):
        done = begin(*words)
        assert done.returncode == 0, done.stderr
    kept = configuration.read(run.benchmark("mine"))
    assert (kept.tasks.split, kept.evaluation.attempts, kept.rollout.infra_retries) == ("validation", 3, 5)
    assert launch("evaluate", run, "--name", "own", "--begin-only", "evaluation.attempts=9").returncode == 0
    play_one(run, "own")
    assert "own was begun with the run's own tasks, not" in refused(
        launch("evaluate", run, "--name", "own", "--begin-only", "tasks=gaia-validation", *begun)
    )


ENDPOINT = ["evaluation.endpoint.model=teacher", "evaluation.endpoint.base_url=http://one/v1"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["agent.temperature=0.6", "evaluation.temperature=1"], "evaluation.temperature=1 counts; set that"),
        ([*ENDPOINT, "agent.top_k=20"], "agent.top_k=20 and .* do not reach an endpoint"),
        (
            [*ENDPOINT, "agent.enable_thinking=false"],
            r"enable_thinking=false do not reach .* in evaluation\.endpoint\.extra",
        ),
        (["agent.enable_thinking=false"], "has no such switch; leave it out"),
    ],
)
def test_a_setting_that_would_not_reach_the_model_is_refused(run: RunDir, words: list[str], reason: str) -> None:
    assert re.search(reason, refused(launch("evaluate", run, "--name", "other", "--begin-only", *words)))
    assert not run.benchmark("other").exists()


def aworld(*words: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "aworld", *words)


def test_what_was_never_played_pins_nothing_and_stops_nothing(run: RunDir, tmp_path: Path) -> None:
    """As after a start that failed at once."""
    path = f"tasks.path={run.root.parent / 'GAIA'}"

    def begin(*words: str) -> subprocess.CompletedProcess[str]:
        servers = "environment.servers=[python]"
        return launch("evaluate", run, "--name", "unplayed", "--begin-only", servers, *words)

    for words in (["tasks=gaia-test", path], ["tasks=gaia-validation", path, "evaluation.attempts=3"], ["seed=5"]):
        assert begin(*words).returncode == 0
    kept = configuration.read(run.benchmark("unplayed"))
    assert (kept.tasks.split, kept.evaluation.attempts, kept.seed) == ("validation", 3, 5)
    seeds = (["tasks=synthetic", "tasks.train=4", "tasks.held_out=2", f"tasks.seed={seed}"] for seed in (1, 2))
    assert all(begin(*words).returncode == 0 for words in seeds)
    assert configuration.read(run.benchmark("unplayed")).tasks.seed == 2
    config, _, source = benchmark.read(run, "unplayed")
    made = make_source(config.tasks, tmp_path / "tasks")  # by the seed that was given last
    assert [task.question for task in source.tasks("held_out")] == [t.question for t in made.tasks("held_out")]
    assert "no episode was played" in refused(aworld("eval", "report", str(run.root), "unplayed", "0"))
    before = aworld("status", str(run.root))
    play_one(run, "unplayed")
    after = aworld("status", str(run.root))
    assert "unplayed" not in before.stdout and "unplayed" in after.stdout and after.returncode == 11


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["environment.servers=[pyton]"], "environment.servers: no tool server 'pyton'"),
        (["environment.servers=[python,search]"], "environment.servers has search, but the tasks bring no corpus"),
        (["agent=gaia"], "agent.max_tokens=32768 does not fit beside a prompt in the 512 tokens"),
    ],
)
def test_an_evaluation_that_cannot_be_played_is_refused(run: RunDir, words: list[str], message: str) -> None:
    own = ["tasks=gaia-validation", f"tasks.path={run.root.parent / 'GAIA'}", "environment.servers=[python]"]
    how = "--begin-only" if "agent=gaia" in words else "--dry-run"  # one of each kind is enough
    assert message in refused(launch("evaluate", run, "--name", "wrong", *own, *words, how))


TEACHER = ["evaluation.endpoint.model=teacher", "evaluation.endpoint.base_url=http://one/v1", "agent=team"]


def begin(run: RunDir, tmp_path: Path, *words: str) -> None:
    """As `jobs/evaluate.py` does with these words."""
    begun = ["tasks=gaia-validation", f"tasks.path={run.root.parent / 'GAIA'}", *TEACHER]
    begun += ["agent.members.analyst.endpoint.model=rival", "agent.members.analyst.endpoint.base_url=http://two/v1"]
    config = configuration.changed(configuration.load(["recipe=demo"]), [*begun, *words])
    benchmark.begin(config, RunDir(tmp_path), "teacher", 0, "gaia-validation")
    play_one(RunDir(tmp_path), "teacher")


@pytest.mark.parametrize(
    "word",
    [
        "evaluation.endpoint.base_url=http://another/v1",
        "evaluation.endpoint.key_variable=KEY",
        "evaluation.endpoint.seconds=7",
        "agent.members.analyst.endpoint.base_url=http://another/v1",
        "tasks.judge.base_url=http://another/v1",
        "tasks.judge.key_variable=KEY",
        "environment.slots=2",
        "environment.start_seconds=300",
        "rollout.infra_retries=9",
        "tasks.path=moved",
    ],
)
def test_what_changes_no_figure_may_change(run: RunDir, tmp_path: Path, word: str) -> None:
    begin(run, tmp_path)
    if word == "tasks.path=moved":
        (tmp_path / "moved").symlink_to(run.root.parent / "GAIA")
        word = f"tasks.path={tmp_path / 'moved'}"
    begin(run, tmp_path, word)
    key, _, value = word.partition("=")
    config = configuration.read(RunDir(tmp_path).benchmark("teacher"))
    assert configuration.differences(config, configuration.changed(config, [f"{key}={value}"])) == {}


@pytest.mark.parametrize(
    ("word", "was"),
    [
        ("evaluation.endpoint.model=rival", "evaluation.endpoint.model=teacher"),
        ("evaluation.endpoint.extra={top_k: 1}", "evaluation.endpoint.extra={}"),
        ("evaluation.attempts=1", "evaluation.attempts=2"),
        ("tasks.judge.model=judge", "tasks.judge.model="),
        ("tasks.split=test", "tasks.split=validation"),
        ("environment.call_seconds=99", "environment.call_seconds=10.0"),
        ("agent.members.analyst.endpoint.model=other", "agent.members.analyst.endpoint.model=rival"),
        ("agent.members.analyst.seconds=1", "agent.members.analyst.seconds=600.0"),
        ("agent.members.new.does=more", "agent.members.new.system_prompt=None"),
        ("seed=1", "seed=0"),
    ],
)
def test_what_may_change_a_figure_may_not(run: RunDir, tmp_path: Path, word: str, was: str) -> None:
    begin(run, tmp_path)
    before = RunDir(tmp_path).benchmark("teacher").read_bytes()
    with pytest.raises(InputError) as caught:
        begin(run, tmp_path, word)
    assert str(caught.value).startswith(f"teacher was begun with {was}, now it is ")
    assert RunDir(tmp_path).benchmark("teacher").read_bytes() == before
