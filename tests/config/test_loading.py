"""Configuration: what composes, and what is refused with the file, the key and the valid ones."""

import shutil
from pathlib import Path

import pytest

from aworld.config import CONFIGS, changed, load, read, read_trackers, to_yaml
from aworld.errors import InputError

pytestmark = pytest.mark.unit
DEMO = ["recipe=demo", "site=local"]


def test_demo_composes_and_round_trips(tmp_path: Path) -> None:
    config = load([*DEMO, "training.lr=1e-3", "name=x", "environment.servers=[python,files]"])
    assert config.training.lr == 1e-3 and config.name == "x" and config.environment.servers == ["python", "files"]
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    assert read(tmp_path / "run.yaml") == config
    assert read_trackers(tmp_path / "run.yaml") == []
    (tmp_path / "run.yaml").write_text(to_yaml(load([*DEMO, "trackers=[tensorboard]"])))
    assert read_trackers(tmp_path / "run.yaml") == ["tensorboard"]


def test_slots_exceed_the_sequences_of_the_shard_unless_they_are_set() -> None:
    assert load([*DEMO, "model.shard.max_num_seqs=5"]).slots == 8
    assert load([*DEMO, "model.shard.max_num_seqs=5", "environment.slots=3"]).slots == 3
    spread = ["site.rollout.elements=64", "model.shard.max_num_seqs=256"]
    assert load([*DEMO, *spread, "rollout.group_size=4", "rollout.tasks_per_round=320"]).slots == 20  # of 1280
    assert load([*DEMO, *spread, "rollout.group_size=32"]).slots == 32
    endpoint = ["evaluation.endpoint.model=m", "evaluation.endpoint.base_url=http://127.0.0.1:1/v1"]
    assert load([*DEMO, *endpoint, "model.shard.max_num_seqs=256"]).slots == 8


def test_a_run_of_an_older_version_keeps_its_seconds_between_two_questions_to_slurm(tmp_path: Path) -> None:
    text = to_yaml(load(["recipe=demo", "site=test-cluster"]))
    assert "poll_seconds: 0.5\n  queue_seconds: 5.0\n" in text
    (tmp_path / "run.yaml").write_text(
        text.replace("poll_seconds: 0.5\n  queue_seconds: 5.0\n", "poll_seconds: 90.0\n")
    )
    found = read(tmp_path / "run.yaml").site
    assert (found.queue_seconds, found.poll_seconds) == (90.0, 2.0)


SITE = """
name: mine
environment: {HDF5_USE_FILE_LOCKING: FALSE, A: 010, ON: 1e3, QUOTED: "a 'b'"}
sbatch:
  exclusive: true
  time-min: 4:00:00
  requeue: false
rollout: {elements: 3}
"""
VARIABLES = {"HDF5_USE_FILE_LOCKING": "FALSE", "A": "010", "ON": "1e3", "QUOTED": "a 'b'"}
OPTIONS = {"exclusive": "true", "time-min": "4:00:00", "requeue": "false"}


def test_what_a_site_passes_on_stays_as_written(tmp_path: Path) -> None:
    """In its file, in a recipe, on the command line, and in run.yaml."""
    configs = shutil.copytree(CONFIGS, tmp_path / "configs")
    (configs / "site" / "mine.yaml").write_text(SITE)
    recipe = (configs / "recipe" / "demo.yaml").read_text()
    (configs / "recipe" / "mine.yaml").write_text(f"{recipe}\nsite: {{environment: {{B: No}}}}\n")
    config = load(["recipe=mine", "site=mine"], configs)
    assert config.site.rollout.elements == 3
    assert (config.site.environment, config.site.sbatch) == (VARIABLES | {"B": "No"}, OPTIONS)
    words = [
        "site.environment.C=FALSE",
        "site.environment={D: 0x10, E: }",
        "site.sbatch.nice=1_000",
        "site[sbatch].x=y",
    ]
    config = changed(config, words)
    assert config.site.environment == VARIABLES | {"B": "No", "C": "FALSE", "D": "0x10", "E": ""}
    assert config.site.sbatch == OPTIONS | {"nice": "1_000", "x": "y"}
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    assert read(tmp_path / "run.yaml") == config


def test_a_mapping_that_a_site_passes_on_may_be_merged_from_another(tmp_path: Path) -> None:
    configs = shutil.copytree(CONFIGS, tmp_path / "configs")
    text = "name: mine\nenvironment: &base {A: FALSE}\nsbatch: {<<: *base, B: 1:00:00}"
    (configs / "site" / "mine.yaml").write_text(text)
    assert load(["recipe=demo", "site=mine"], configs).site.sbatch == {"A": "FALSE", "B": "1:00:00"}


@pytest.mark.parametrize("recipe", sorted(p.stem for p in (CONFIGS / "recipe").glob("*.yaml")))
@pytest.mark.parametrize("model", sorted(p.stem for p in (CONFIGS / "model").glob("*.yaml")))
def test_every_shipped_model_fits_every_shipped_recipe(recipe: str, model: str) -> None:
    load([f"recipe={recipe}", f"model={model}", "model.path=/some/checkpoint"])


@pytest.mark.parametrize(
    ("model", "size", "without_embeddings"),
    [
        ("qwen3-0.6b", 0.6, 0.44),
        ("qwen3-1.7b", 1.7, 1.4),
        ("qwen3-4b", 4.0, 3.6),
        ("qwen3-4b-2507", 4.0, 3.6),
        ("qwen3-8b", 8.2, 6.95),
        ("qwen3-14b", 14.8, 13.2),
        ("qwen3-32b", 32.8, 31.2),
        ("qwen3-32b-131k", 32.8, 31.2),
    ],
)
def test_a_qwen3_has_its_true_architecture(model: str, size: float, without_embeddings: float) -> None:
    """The parameter counts (billions) of the model cards, from the shapes of a dense Qwen3."""
    a = load([*DEMO, f"model={model}", "model.path=/some/checkpoint"]).model.architecture
    heads, kv = a.num_attention_heads * a.head_dim, a.num_key_value_heads * a.head_dim
    attention = a.hidden_size * (2 * heads + 2 * kv) + 2 * a.head_dim
    layer = attention + 3 * a.hidden_size * a.intermediate_size + 2 * a.hidden_size
    layers = a.num_hidden_layers * layer + a.hidden_size
    embeddings = a.vocab_size * a.hidden_size * (1 if a.tie_word_embeddings else 2)
    assert (layers + embeddings) / 1e9 == pytest.approx(size, rel=0.015)
    assert layers / 1e9 == pytest.approx(without_embeddings, rel=0.015)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*DEMO, "training.lrr=1"], r"'training.lrr=1' on the command line: no key 'training.lrr'; valid: .*\blr\b"),
        ([*DEMO, "trainig.lr=1"], r"no key 'trainig'; valid: .*\btraining\b"),
        ([*DEMO, "training.lr=fast"], r"'training.lr=fast' on the command line: 'training.lr': .*fast"),
        ([*DEMO, "training"], r"'training' on the command line is not key=value"),
        (["recipe=dem0"], r"no recipe 'dem0'; .*configs/recipe has demo, "),
        (["site=local"], r"no recipe given; add recipe=NAME, one of: .*demo"),
        ([*DEMO, "model=qwen3-32b"], r"no value for 'model.path'; add model.path="),
        ([*DEMO, "training.lr={"], r"the value is not valid YAML"),
        ([*DEMO, "environment.servers[0]=files"], r"'environment.servers\[0\]=files' on .*; give the whole list"),
        ([*DEMO, "name=${nobody}"], r"'name': Interpolation key 'nobody' not found"),
        ([*DEMO, "name=${oc.env:NO_SUCH_VARIABLE}"], r"'name': .*NO_SUCH_VARIABLE"),
    ],
)
def test_refusals_say_what_and_where(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(words)


def test_a_misspelt_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    shutil.copytree(CONFIGS, tmp_path / "configs")
    file = tmp_path / "configs" / "model" / "tiny.yaml"
    file.write_text(file.read_text().replace("kv_cache_gb", "kv_cash_gb"))
    with pytest.raises(InputError, match=rf"{file}: no key 'shard.kv_cash_gb'; valid: .*kv_cache_gb"):
        load(DEMO, tmp_path / "configs")


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    shutil.copytree(CONFIGS, tmp_path / "configs")
    file = tmp_path / "configs" / "site" / "local.yaml"
    file.write_text("name: [")
    with pytest.raises(InputError, match=rf"{file} is not valid YAML.*line"):
        load(DEMO, tmp_path / "configs")
    with pytest.raises(InputError, match=rf"{file} is not valid YAML.*line"):
        read(file)
