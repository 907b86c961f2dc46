"""A layout that does not fit is refused in one line, and the line's mend makes it fit."""

import re
from functools import cache
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.config import Config
from aworld.errors import InputError
from aworld.planning import fit
from aworld.planning.hardware import FIGURES, load
from aworld.planning.kv import playing, room

pytestmark = pytest.mark.unit


@cache
def qwen(*overrides: str) -> Config:
    words = ["recipe=grpo", "site=example", "model=qwen3-32b", "model.path=null", "model.recompute=none"]
    return configuration.load([*words, *overrides])


def refusal(config: Config) -> str:
    with pytest.raises(InputError) as error:
        fit.check(config)
    return str(error.value)


@pytest.mark.parametrize(
    ("overrides", "mend"),
    [
        ([], "model.recompute=selective"),
        (["model.shard.max_model_len=131072"], "model.recompute=full"),
        (["training.micro_batch_tokens=400000", "model.recompute=full"], "training.micro_batch_tokens=40960"),
        (
            [
                "site.train.nodes=2",
                "model.parallel.pipeline_model_parallel_size=2",
                "model.shard.max_model_len=262144",
            ],
            "model.recompute=full model.offload_optimizer=true",
        ),
    ],
)
def test_the_mend_is_the_cheapest_that_fits(overrides: list[str], mend: str) -> None:
    said = refusal(qwen(*overrides))
    assert re.match(r"model\.parallel: stage 0 needs [\d.]+ GB, and H.00 has [\d.]+ of \d+ GB to use \(weights ", said)
    *_, words = said.partition("; set ")
    assert words == mend
    fit.check(configuration.changed(qwen(*overrides), words.split()))


def test_the_parts_of_a_refusal_add_up() -> None:
    said = refusal(qwen())
    needed = float(re.search(r"needs ([\d.]+) GB", said)[1])
    parts = re.search(r"\((weights.*?)\)", said)[1]
    assert sum(map(float, re.findall(r" ([\d.]+)", parts))) == pytest.approx(needed, abs=0.3)


def test_more_context_ranks_come_with_their_nodes() -> None:
    config = qwen("model.shard.max_model_len=524288", "model.recompute=full", "model.offload_optimizer=true")
    said = refusal(config)
    assert said.endswith("; set model.parallel.context_parallel_size=2 site.train.nodes=8")


def test_a_replica_becomes_a_context_rank_without_further_nodes() -> None:
    config = qwen(
        "model.shard.max_model_len=524288", "model.recompute=full", "model.offload_optimizer=true", "site.train.nodes=8"
    )
    assert refusal(config).endswith("; set model.parallel.context_parallel_size=2")


def test_what_nothing_mends_is_said() -> None:
    config = qwen("model.parallel.tensor_model_parallel_size=1", "model.parallel.pipeline_model_parallel_size=1")
    assert "no recomputation, offload or context parallelism mends it; raise model.parallel" in refusal(config)


@pytest.mark.parametrize("overrides", [["site.hardware=''"], ["site=local"], ["site.train.gpus_per_node=0"]])
def test_a_site_that_names_no_gpus_refuses_nothing(overrides: list[str]) -> None:
    fit.check(qwen(*overrides))


def test_a_shard_holds_one_whole_episode() -> None:
    config = qwen("model.recompute=full", "model.shard.tensor_parallel_size=1")
    said = refusal(config)
    assert "model.shard: one episode of 40960 tokens needs 10.7 GB of KV cache on each GPU, and H100 has 2.5" in said
    assert said.endswith("; set model.shard.tensor_parallel_size=2")
    fit.check(configuration.changed(config, ["model.shard.tensor_parallel_size=2"]))


def test_a_shard_as_wide_as_its_node_takes_shorter_episodes() -> None:
    config = qwen("model.recompute=full", "model.shard.tensor_parallel_size=1", "site.rollout.gpus_per_node=1")
    *_, most = refusal(config).removesuffix(" at most").rpartition(" ")
    assert int(most) == room(config, load(config.site)).tokens
    fit.check(configuration.changed(config, [f"model.shard.max_model_len={most}"]))


def test_slots_sequences_and_cache_limit_the_episodes_at_once() -> None:
    hardware = load(qwen().site)
    wide = ["environment.slots=1000", "model.shard.max_num_seqs=1000"]
    found = room(qwen(*wide), hardware)
    # 80 GB × 0.9 − 65.5 GB / 4 − 4 GB, 64 KiB a token
    assert found.tokens == pytest.approx((72e9 - 65.524e9 / 4 - 4e9) / 65536, rel=1e-3)
    assert found.longest == found.tokens // 40960
    assert playing(qwen(*wide), hardware, 20000) == found.tokens // 10000
    assert playing(qwen("environment.slots=5"), hardware, 20000) == 5
    assert playing(qwen("environment.slots=500", "model.shard.max_num_seqs=7"), hardware, 20000) == 7


@pytest.mark.parametrize("name", ["a100", "h100", "h200"])
def test_every_shipped_hardware_has_every_figure(name: str) -> None:
    found = load(qwen(f"site.hardware={name}").site)
    assert all(getattr(found, figure) > 0 for figure in FIGURES) and found.name == name.upper()
    assert 0 < found.compute_share < 1 and 0 < found.decode_share < 1


def test_a_site_has_figures_and_hardware_of_its_own(tmp_path: Path) -> None:
    site = qwen("site.hardware_figures={compute_share: 0.31, memory_gb: 64}").site
    assert (load(site).compute_share, load(site).memory_gb, load(site).teraflops) == (0.31, 64, 989)
    file = tmp_path / "mine.yaml"
    file.write_text("\n".join(f"{name}: 1" for name in FIGURES))
    assert load(qwen(f"site.hardware={file}").site).name == "mine"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("site.hardware=h1000", "configs/hardware has a100, h100, h200; give one of these, or the path of a file"),
        ("site.hardware_figures={mfu: 0.4}", "site.hardware=h100: no figure 'mfu'; valid: memory_gb, teraflops"),
        ("site.hardware_figures={compute_share: 35}", "compute_share=35 is a share, so at most 1"),
    ],
)
def test_a_figure_that_cannot_be_is_refused(override: str, message: str) -> None:
    assert message in refusal(qwen(override))


def test_hardware_of_ones_own_misses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("memory_gb: 80\nteraflops: fast\n")
    assert f"teraflops has to be a number above 0; set it in {file}" in refusal(qwen(f"site.hardware={file}"))
