"""What a cold start refuses, by one line, before anything is submitted; and that it holds no GPU without need."""

import json
import socket
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import pytest
from hf_folder import hf_folder
from model_server import Model, Reply, model_serving
from rich.console import Console

from aworld import config as configuration
from aworld.errors import InputError
from aworld.launch import cold_start
from aworld.launch.start import dry_run
from aworld.publish import publish_text
from aworld.rundir import RunDir
from aworld.stages import ROLLOUT, Stage

pytestmark = pytest.mark.unit
COLD = "training.cold_start"
FEW = ["recipe=demo", "site=local", "name=run", "tasks.train=4", "tasks.held_out=2", f"{COLD}.tasks=2"]
TEACHER = [f"{COLD}.teacher.model=big", f"{COLD}.teacher.base_url=http://teacher.example/v1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (f"{TEACHER[0]}", "big has no base_url"),
        (f"{TEACHER[1]}", r"teacher\.base_url=.*, but no model is named; set training\.cold_start\.teacher\.model"),
        (f"{TEACHER[0]} {COLD}.player=policy", r"teacher\.model=big and .*player=policy: a cold start has one of them"),
        (f"{TEACHER[0]} {COLD}.teacher.path=/x", r"teacher\.model=big and .*path=/x"),
        (f"{TEACHER[0]} {COLD}.tasks=0", r"teacher\.model=big, but training\.cold_start\.tasks=0: there is nothing to"),
        (f"{COLD}.conversations=/x", r"conversations=/x takes the place of tasks; set training\.cold_start\.tasks=0"),
        (f"{COLD}.attempts=4", r"attempts=4: an expert plays each task in one way; set it to 1"),
        (f"{COLD}.teacher.path=/nowhere", r"teacher\.path=/nowhere is no HF folder: it holds no config\.json"),
        (f"{COLD}.player=me", r"player=me is not there; valid: expert, policy"),
        ("agent.members.a.does=nothing", "expert plays alone, without agent.members; name a teacher"),
    ],
)
def test_what_cannot_be_played_is_refused(tmp_path: Path, words: str, message: str) -> None:
    model = hf_folder(tmp_path / "model", configuration.load(FEW).model.architecture)
    config = configuration.load([*FEW, f"runs={tmp_path}", f"model.path={model}", *words.split()])
    with pytest.raises(InputError, match=message):
        dry_run(config, Console(file=StringIO()))


def test_a_folder_of_another_format_is_to_be_served_by_its_owner(tmp_path: Path) -> None:
    config = configuration.load([*FEW, f"{COLD}.teacher.path={tmp_path}"])
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 4096, "num_attention_heads": 4}))
    with pytest.raises(InputError, match=r"holds no tokenizer.json.*or serve it yourself, and name it by"):
        cold_start.check(config)
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 64, "num_attention_heads": 4}))
    with pytest.raises(InputError, match="max_model_len=512 is beyond the 64 positions"):
        cold_start.check(config)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"teacher\.path: .*config\.json is no JSON .*; fetch it again"):
        cold_start.check(config)


def test_a_teacher_that_does_not_fit_a_shard_is_refused(tmp_path: Path) -> None:
    large = ["recipe=grpo", "site=example", f"{COLD}.tasks=2", f"{COLD}.teacher.path={tmp_path}"]
    config = configuration.load([*large, "model.path=null"])
    architecture = asdict(config.model.architecture) | {"num_hidden_layers": 640}
    (tmp_path / "config.json").write_text(json.dumps(architecture))
    message = r"teacher\.path=.*: model\.shard: .* weights 1\d\d\.\d, .*; or serve the teacher yourself as an endpoint"
    with pytest.raises(InputError, match=message):
        cold_start.check(config)


def test_a_teacher_is_not_looked_for_once_all_is_played(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = [TEACHER[0], f"{COLD}.teacher.base_url=http://127.0.0.1:{unused.getsockname()[1]}/v1"]
        for words in ([f"{COLD}.teacher.path=/gone"], [*gone, f"{COLD}.teacher.key_variable=NO_SUCH_KEY"]):
            config = configuration.load([*FEW, f"runs={tmp_path}", f"name={len(words)}", *words])
            with pytest.raises(InputError):
                cold_start.check(config)
                cold_start.greet(config)
            publish_text(RunDir.of(config).trajectories(0), "")
            cold_start.check(config)
            cold_start.greet(config)


@pytest.mark.parametrize(("words", "named"), [(TEACHER, "model=big"), ([f"{COLD}.teacher.path=/x"], "path=/x")])
def test_a_player_of_ones_own_does_not_play_for_a_teacher(words: list[str], named: str) -> None:
    with pytest.raises(
        InputError, match=rf"agent\.player=/me\.py and training\.cold_start\.teacher\.{named}: .*leave one"
    ):
        cold_start.check(configuration.load([*FEW, *words, "agent.player=/me.py"]))


def test_a_teacher_is_greeted_before_anything_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with model_serving(monkeypatch) as model:
        words = [*FEW, f"runs={tmp_path}", TEACHER[0], f"{COLD}.teacher.base_url={model.url}"]
        cold_start.greet(configuration.load(words))
        assert isinstance(model, Model) and model.asked[0].json["model"] == "big"
        model.first.append(Reply(b"no such model", status=404))
        with pytest.raises(InputError, match=r"big at .* refuses whatever it is asked, status 404: no such model"):
            cold_start.greet(configuration.load(words))
        keyed = [*words, f"{COLD}.teacher.key_variable=NO_SUCH_KEY"]
        with pytest.raises(InputError, match="the variable NO_SUCH_KEY is not set"):
            cold_start.greet(configuration.load(keyed))
        cold_start.greet(configuration.load([*keyed, "site.environment={NO_SUCH_KEY: secret}"]))  # the jobs have it
    capsys.readouterr()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        config = configuration.load([*FEW, f"runs={tmp_path}", TEACHER[0], f"{COLD}.teacher.base_url={address}"])
        cold_start.greet(config)
    assert f"the teacher big at {address} does not answer from this machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "gpus"),
    [
        ([], 0),
        (TEACHER, 0),
        ([f"{COLD}.tasks=0", f"{COLD}.conversations=/x"], 0),
        ([f"{COLD}.player=policy"], 8),
        ([f"{COLD}.teacher.path=/x"], 8),
    ],
)
def test_a_cold_start_without_a_vllm_holds_no_gpu(words: list[str], gpus: int) -> None:
    config = configuration.load([*FEW, "site.rollout.gpus_per_node=8", "site.rollout.partition=gpu", *words])
    for number, expected in ((0, gpus), (1, 8), (None, 8)):
        resources = Stage.of(ROLLOUT, config, RunDir.of(config), number).resources
        assert (resources.gpus_per_node, resources.partition) == (expected, "gpu")


def test_a_dry_run_reads_the_conversations(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n')
    words = [*FEW, f"{COLD}.tasks=0", f"{COLD}.conversations={tmp_path / 'rows.jsonl'}", f"runs={tmp_path}"]
    with pytest.raises(InputError, match=r"rows\.jsonl line 1: messages: a list of messages is needed"):
        dry_run(configuration.load(words), Console(file=StringIO()))
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": talk}))
    said = StringIO()
    dry_run(configuration.load(words), Console(file=said, width=200))
    assert "rollout" in said.getvalue() and "train" in said.getvalue()
