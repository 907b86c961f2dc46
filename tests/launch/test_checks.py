"""What cannot work is one line, in a dry run as in the start, before a run is there that refuses the mended line."""

import json
from contextlib import nullcontext
from io import StringIO
from pathlib import Path

import pytest
from hf_folder import hf_folder
from rich.console import Console

from aworld import config as configuration
from aworld.config import CONFIGS, Config, Tasks
from aworld.errors import InputError
from aworld.launch.checks import check_unseen
from aworld.launch.prepare import prepare
from aworld.launch.start import dry_run
from aworld.publish import is_complete, publish_folder, publish_json, publish_text, read_jsonl
from aworld.rundir import HELD_OUT, RunDir

pytestmark = pytest.mark.unit
TINY = configuration.load(["recipe=demo"]).model.architecture
FEW = ["recipe=demo", "site=local", "name=run", "tasks.train=4", "tasks.held_out=2", "training.cold_start.tasks=2"]

PROGRAM = "agent.program.command"


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Of a run with a model that nobody loads."""
    return [*FEW, f"runs={tmp_path}", f"model.path={hf_folder(tmp_path / 'model', TINY)}"]


def dry(config: Config) -> str:
    out = StringIO()
    dry_run(config, Console(file=out, width=200))
    return out.getvalue()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("training.lr=-1", "training.lr=-1.0 cannot be"),
        ("training.options.kl=0.1", r"training\.options\.kl: grpo has no such option; valid: entropy_bonus, "),
        (
            "training.decay=cosine",
            "training.decay_rounds=0: the learning rate falls to 0 there, .* set it to 24 or more",
        ),
        (
            "training.options.overlong_from=240 training.options.overlong_until=300",
            "overlong_from=240, but an episode samples at most agent.max_tokens=240 tokens; lower it",
        ),
        ("rollout.group_size=1", "rollout.group_size=1: grpo compares the attempts at a task and learns nothing"),
        (
            "rollout.oversample=2 training.algorithm=sft",
            "rollout.oversample=2 plays other tasks .* sft compares no att",
        ),
        ("rollout.oversample=2 rollout.tasks_per_round=2", "rollout.oversample=2: there are only 2 tasks to train on"),
        (
            "rollout.rest_passes=1 training.algorithm=sft",
            "rest_passes=1 leaves out tasks .* sft compares no att",
        ),
        ("rollout.rest_passes=1 rollout.tasks_per_round=2", "there are only 2 tasks to train on, so none can rest"),
        ("environment.servers=[pyton]", "environment.servers: no tool server 'pyton'; valid: .*, python, "),
        ("environment.web=[broswer]", "environment.web: no tool server 'broswer'"),
        ("environment.corpus=/nowhere", "environment.servers has search, but /nowhere is not there"),
        (f"{PROGRAM}=[/nowhere/agent]", "program.command: /nowhere/agent is not in the sandbox .* give its full path"),
        (f"{PROGRAM}=[sh] agent.program.folders=[/nowhere]", "agent.program.folders: /nowhere is not there"),
        (f"{PROGRAM}=[sh] agent.context=drop", "agent.context=drop is of our own agents"),
        (f"{PROGRAM}=[sh] evaluation.endpoint.model=m evaluation.endpoint.base_url=http://x/v1", "to a policy of ours"),
        (
            f"{PROGRAM}=[sh] agent.program.folders=[/]",
            "folders: /: the policy could read the answers of the tasks in /",
        ),
        (f"{PROGRAM}=[sh]", "training.cold_start.tasks=2: the tasks' expert plays no agent.program; name a teacher"),
        ("agent.program.folders=[/tmp]", "agent.program has no command"),
        ("agent.max_tokens=512", "agent.max_tokens=512 does not fit beside a prompt in the 512 tokens"),
        ("agent.temperature=0", "tokens cut from the distribution have no ratio to train on"),
        ("agent.top_k=20", "tokens cut from the distribution have no ratio to train on"),
        (
            "agent.members.a.endpoint.base_url=http://x/v1",
            "agent.members.a.endpoint.base_url=http://x/v1, but no model",
        ),
        ("evaluation.endpoint.model=m", "m has no base_url"),
        ("model.path=/nowhere", "model.path=/nowhere is not there"),
        ("model.parallel.pipeline_model_parallel_size=2", "does not divide num_hidden_layers=3"),
        (
            "model.parallel.context_parallel_size=2",
            r"site.train has 2 tasks .*, no multiple of model.parallel's 4 \(tensor × pipeline × context\)",
        ),
        ("site.train.gpus_per_node=1", "site.train has 2 tasks_per_node on 1 GPUs, but each rank needs one of its own"),
        ("model.name=other", "were made for model=tiny, not other; choose another recipe=NAME, or insist with"),
        ("model.offload_optimizer=true", "model.offload_optimizer=true needs model.dtype=bfloat16"),
        ("tasks.path=mine.jsonl", "tasks.source=synthetic does not use it"),
        ("tasks.train=0", "tasks.source=synthetic has no training tasks; train on others, such as"),
    ],
)
def test_what_cannot_work_is_refused(words: list[str], word: str, message: str) -> None:
    wrong = configuration.load([*words, *word.split()])
    for attempt in (dry, prepare):
        with pytest.raises(InputError, match=message):
            attempt(wrong)


def test_a_failed_preparation_pins_nothing(words: list[str]) -> None:
    """What the tasks decide is known only once they are there."""
    with pytest.raises(InputError, match="/nowhere is not there"):
        prepare(configuration.load([*words, "environment.corpus=/nowhere", "tasks.train=5"]))
    config = configuration.load(words)
    run, source = prepare(config)
    assert configuration.read(run.config) == config and len(list(source.tasks("train"))) == 4


def test_a_relative_path_of_a_model_holds_from_another_folder(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = configuration.load([*words, "model.path=model"])
    prepare(config)
    monkeypatch.chdir("/")
    prepare(config)


def test_an_image_that_is_not_there_is_refused(words: list[str], tmp_path: Path) -> None:
    config = configuration.load([*words, "site.setup=[true]", f"site.images.megatron={tmp_path}/megatron.sif"])
    with pytest.raises(
        InputError, match=r"site\.images\.megatron=.*megatron\.sif is not there .*containers build megatron"
    ):
        prepare(config)


def test_tasks_without_an_expert_are_for_no_cold_start(words: list[str]) -> None:
    gym = [*words, "tasks=reasoning-gym", "tasks.train=4", "tasks.held_out=2", "environment.servers=[python]"]
    with pytest.raises(InputError, match=r"cold_start\.tasks=2, but the tasks of tasks\.source=gym bring no plan"):
        dry(configuration.load(gym))
    assert "would be launched" in dry(configuration.load([*gym, "training.cold_start.tasks=0"]))
    config = configuration.load(gym)
    publish_text(RunDir.of(config).trajectories(0), "")  # a warm start from another's episodes
    _, _, jobs = dry(config).partition("would be launched")
    assert "train" in jobs and prepare(config)


def test_a_benchmark_that_nobody_trains_on_is_refused(words: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "GAIA" / "2023" / "validation"
    folder.mkdir(parents=True)
    row = '{"task_id": "a", "Question": "?", "Level": 1, "Final answer": "4", "file_name": ""}\n'
    (folder / "metadata.jsonl").write_text(row)
    gaia = [*words, "tasks=gaia-validation", f"tasks.path={tmp_path / 'GAIA'}", "environment.servers=[python]"]
    gaia = [word for word in gaia if not word.startswith(("tasks.train", "tasks.held_out"))]
    with pytest.raises(InputError, match=r"tasks\.source=gaia has no training tasks; .* aworld launch evaluate RUN"):
        dry(configuration.load(gaia))
    (folder / "metadata.jsonl").write_text(row.replace('"a"', f'"{"x" * 129}"'))
    none = ["pipeline.rounds=0", "training.cold_start.tasks=0"]
    with pytest.raises(InputError, match="has 129 bytes; shorten it to 128"):
        prepare(configuration.load([*gaia, *none]))


@pytest.mark.parametrize(
    ("trained", "evaluated", "is_refused"),
    [
        (["path=a"], ["held_out_path=a"], True),
        (["path=a", "held_out_path=b"], ["held_out_path=b"], False),
        (["path=a"], ["path=a"], False),  # the same rows are held out
        (["path=a"], ["path=a", "seed=9"], True),
        (["path=a", "held_out_path=b"], ["path=a"], True),
        (["path=a"], ["path=c"], False),
        (["mixture.m={source: jsonl, path: a}"], ["held_out_path=a"], True),
        (["mixture.m={source: gaia, purpose: train, split: validation}"], ["split=validation"], True),
        (["path=a"], ["mixture.m={source: jsonl, held_out_path: a}"], True),
    ],
)
def test_no_row_is_trained_on_and_evaluated_on(trained: list[str], evaluated: list[str], is_refused: bool) -> None:
    one, other = (_tasks(words) for words in (trained, evaluated))
    with pytest.raises(InputError, match="the run trains on") if is_refused else nullcontext():
        check_unseen(one, other)


def _tasks(words: list[str]) -> Tasks:
    first = "mixture" if words[0].startswith("mixture") else "gaia-validation" if "split" in words[0] else "jsonl"
    return configuration.load(["recipe=demo", f"tasks={first}", *(f"tasks.{word}" for word in words)]).tasks


def test_the_parts_of_a_mixture_hold_nothing_out_that_another_trains_on(words: list[str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": name, "question": name, "answer": "1"}) + "\n")
    parts = {"one": ("a.jsonl", "b.jsonl"), "two": ("b.jsonl", "a.jsonl")}
    mixed = [
        f"tasks.mixture.{name}={{source: jsonl, path: {tmp_path / train}, held_out_path: {tmp_path / held}}}"
        for name, (train, held) in parts.items()
    ]
    kept = [word for word in words if not word.startswith(("tasks.", "training.cold"))]
    none = ["training.cold_start.tasks=0", "rollout.tasks_per_round=2", "tasks=mixture"]
    with pytest.raises(InputError, match="the held-out task 'one/b' asks the same as 'two/b', which is trained on"):
        dry(configuration.load([*kept, *none, *mixed]))


def test_who_insists_may_train_another_model(words: list[str]) -> None:
    assert "would be launched" in dry(configuration.load([*words, "model.name=other", "training.made_for=other"]))


@pytest.mark.parametrize("recipe", sorted(p.stem for p in (CONFIGS / "recipe").glob("*.yaml")))
def test_every_recipe_can_be_launched_as_it_is(recipe: str, tmp_path: Path) -> None:
    model = configuration.load([f"recipe={recipe}", "model.path=x"]).model.architecture
    few = ["tasks.train=4", "tasks.held_out=2", f"runs={tmp_path}", "site=local", "site.train.tasks_per_node=32"]
    path = [f"model.path={hf_folder(tmp_path / 'model', model)}"]
    assert "would be launched" in dry(configuration.load([f"recipe={recipe}", *few, *path]))


def begun(words: list[str]) -> RunDir:
    run, _ = prepare(configuration.load(words))
    run.round(1).mkdir(parents=True)
    return run


def test_a_run_that_did_not_begin_is_prepared_anew(words: list[str]) -> None:
    prepare(configuration.load(words))
    run, source = prepare(configuration.load([*words, "tasks.seed=1", "tasks.train=5"]))
    assert len(list(source.tasks("train"))) == 5 and configuration.read(run.config).tasks.seed == 1


@pytest.mark.parametrize(
    "word", ["seed=1", "tasks.seed=1", "agent.max_turns=9", "training.adam_beta1=0.8", "model.dtype=bfloat16"]
)
def test_what_a_run_is_may_not_change(words: list[str], word: str) -> None:
    begun(words)
    key, _, value = word.partition("=")
    with pytest.raises(
        InputError, match=rf"was started with {key}=.*, now it is {value}; leave it out, or begin another run"
    ):
        prepare(configuration.load([*words, word]))


def test_more_attempts_at_the_held_out_tasks_may_be_asked_for_later(words: list[str]) -> None:
    run = begun(words)
    publish_json(run.evaluation(HELD_OUT, 0) / "timing.json", {})  # it was over
    with pytest.raises(InputError, match=r"was started with seed=0, now it is 1"):
        prepare(configuration.load([*words, "evaluation.attempts=5", "seed=1"]))
    assert (run.evaluation(HELD_OUT, 0) / "timing.json").exists()
    prepare(configuration.load([*words, "evaluation.attempts=5"]))
    assert configuration.read(run.config).evaluation.attempts == 5
    assert not (run.evaluation(HELD_OUT, 0) / "timing.json").exists()
    with pytest.raises(InputError, match=r"was started with evaluation.attempts=5, now it is 4"):
        prepare(configuration.load([*words, "evaluation.attempts=4"]))


def test_what_mends_an_out_of_memory_may_change_at_any_time(words: list[str]) -> None:
    """The result depends on none of it, and it is recorded."""
    run = begun(words)
    free = [
        "training.micro_batch_tokens=512",
        "training.save_seconds=60",
        "model.parallel.tensor_model_parallel_size=1",
    ]
    free += ["model.shard.max_num_seqs=8", "model.shard.kv_cache_gb=0.5", "environment.slots=2", "pipeline.rounds=30"]
    prepare(configuration.load([*words, *free]))
    now = configuration.read(run.config)
    assert (now.training.micro_batch_tokens, now.model.parallel.tensor_model_parallel_size) == (512, 1)
    (row,) = read_jsonl(run.changes)
    assert row["after_round"] == 1 and row["changes"]["training.micro_batch_tokens"] == [4096, 512]
    assert set(row["changes"]) == {word.partition("=")[0] for word in free}
    prepare(configuration.load([*words, *free]))
    assert len(read_jsonl(run.changes)) == 1


def test_how_is_trained_may_change_between_two_rounds(words: list[str]) -> None:
    run = begun(words)
    other = [*words, "training.lr=1e-5", "rollout.group_size=8"]
    with pytest.raises(
        InputError, match=r"round 1 is under way with .*; let it end \(aworld resume .* pipeline.rounds=1"
    ):
        prepare(configuration.load(other))
    publish_folder(run.policy(1), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    assert is_complete(run.policy(1))
    prepare(configuration.load(other))
    assert read_jsonl(run.changes)[0]["changes"] == {"training.lr": [3e-4, 1e-5], "rollout.group_size": [16, 8]}


@pytest.mark.parametrize(
    ("text", "fault"),
    [("Player = 3", r"has no method play\(task, attempt, seed, environment\)"), ("", "has no Player; it has nothing")],
)
def test_a_player_of_ones_own_that_cannot_play_is_refused(
    words: list[str], tmp_path: Path, text: str, fault: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"agent\.player={file}.* {fault}"):
        dry(configuration.load([*words, f"agent.player={file}"]))
