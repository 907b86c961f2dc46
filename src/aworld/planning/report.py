"""The tables of `aworld plan`."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from aworld.config import Config
from aworld.planning.cost import Cost
from aworld.planning.hardware import Hardware
from aworld.planning.kv import playing, room
from aworld.planning.measured import Measured
from aworld.planning.memory import memory, replicas, row_tokens
from aworld.planning.shapes import parameters
from aworld.planning.simulate import Outcome

PARTS = {  # of a rank's memory, as the table names them
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations",
    "layer": "one layer's backward pass",
    "logits": "logits (before that)",
    "communication": "communication",
    "overhead": "CUDA, NCCL, cuBLAS",
}


def show(config: Config, hardware: Hardware | None, cost: Cost, measured: Measured | None, console: Console) -> None:
    """Print what the run needs: memory, episodes at once, seconds, GPU-hours, jobs, bytes on disk."""
    lengths = sorted(cost.episodes.lengths)
    source = f"round {measured.newest}" if measured else "assumed; aworld plan RUN takes those of a run"
    size = f"{config.model.name}: {parameters(config.model.architecture) / 1e9:,.3g} B parameters"
    tokens = f"{_at(lengths, 0.5):,} tokens (median; {_at(lengths, 0.95):,} at 95 %; {source})"
    up_to = "up to " if config.rollout.oversample > 1 and not measured else ""  # tasks in the place of others
    _say(console, f"{size}; {up_to}{len(lengths)} episodes a round of {tokens}")
    if hardware is None:
        _say(console, "site.hardware names no GPUs: memory is not compared, and only measured seconds are known")
    else:
        _show_memory(config, hardware, console)
        _show_room(config, hardware, cost, console)
    _show_seconds(cost, console)
    if cost.outcome:
        _say(console, _simulated(cost.outcome, measured))
    if cost.idle_slots:
        _say(console, _idle(config, cost))
    _show_disk(cost, console)
    _say(console, _sum(config, cost))


def _show_memory(config: Config, hardware: Hardware, console: Console) -> None:
    if not config.site.train.gpus_per_node:
        return
    parallel = config.model.parallel
    console.print()
    _say(
        console,
        f"Memory of a trainer's rank in GB, of {hardware.memory_gb:g} ({hardware.name}); tensor "
        f"{parallel.tensor_model_parallel_size} × pipeline {parallel.pipeline_model_parallel_size} × context "
        f"{parallel.context_parallel_size} × data {replicas(config)}, recompute {config.model.recompute}, rows of "
        f"{row_tokens(config):,} tokens",
    )
    stages = memory(config)
    table = _table("stage", *(str(one.stage) for one in stages))
    for part, name in PARTS.items():
        between = " (after the passes)" if part == "optimizer" and config.model.offload_optimizer else ""
        table.add_row(name + between, *(f"{getattr(one, part) / 1e9:.1f}" for one in stages))
    table.add_row("peak", *(f"{one.needed / 1e9:.1f}" for one in stages), style="bold")
    console.print(table)


def _show_room(config: Config, hardware: Hardware, cost: Cost, console: Console) -> None:
    if not config.site.rollout.gpus_per_node:
        return
    shard, found = config.model.shard, room(config, hardware)
    console.print()
    _say(
        console,
        f"A vLLM shard ({shard.tensor_parallel_size} GPU{'s' * (shard.tensor_parallel_size > 1)}): weights "
        f"{found.weights / 1e9:.1f} GB and "
        f"{max(found.cache, 0) / 1e9:.1f} GB of KV cache on each, {found.tokens:,} tokens: {found.longest} episodes of "
        f"{shard.max_model_len:,}. It plays {playing(config, hardware, cost.episodes.mean)} at once (environment.slots="
        f"{config.slots}, model.shard.max_num_seqs={shard.max_num_seqs})",
    )
    if found.longest > found.at_once:
        setting = "environment.slots" if config.slots <= shard.max_num_seqs else "model.shard.max_num_seqs"
        if config.environment.slots or setting != "environment.slots":
            _say(console, f"the cache has room for more: raise {setting} to {found.longest}")
        else:  # the slots are a worker's share of a round
            _say(console, f"the cache has room for more: a round may have {found.longest} episodes for each worker")


def _show_seconds(cost: Cost, console: Console) -> None:
    console.print()
    table = _table("", "time", "tokens/s", "GPUs", "GPU-hours", "times", "GPU-hours in all", "jobs")
    for line in cost.lines:
        known = line.seconds is not None
        table.add_row(
            line.name,
            _time(line.seconds),
            f"{line.tokens / line.seconds:,.0f}" if line.seconds and line.tokens else "",
            str(line.gpus or ""),
            f"{line.gpu_hours:,.1f}" if known and line.gpus else "",
            str(line.times),
            f"{line.gpu_hours * line.times:,.0f}" if known and line.gpus else "",
            str(line.jobs or ""),
        )
    console.print(table)


def _simulated(outcome: Outcome, measured: Measured | None) -> str:
    line = f"a round's rollout, simulated: {_time(outcome.seconds)}, slots busy {outcome.busy:.0%} of the time"
    if outcome.preemptions:
        line += f"; preemptions: {outcome.preemptions}, which lose {_time(outcome.lost_seconds)} of slots' time"
    if measured:
        line += f"; round {measured.newest} took {_time(measured.newest_rollout)}"
    return line


def _idle(config: Config, cost: Cost) -> str:
    """The settings that leave no slot without an episode."""
    episodes, resources = len(cost.episodes.lengths), config.site.rollout
    line = f"a round's {episodes} episodes leave {cost.idle_slots} of {cost.slots} slots idle"
    tasks = int(cost.slots / config.rollout.oversample) // config.rollout.group_size
    fill = f"rollout.tasks_per_round={tasks} fills them" if tasks > config.rollout.tasks_per_round else ""
    elements = -(-episodes * resources.elements // cost.slots)
    fewer = f"site.rollout.elements={elements} needs no others" if elements < resources.elements else ""
    return f"{line}: {', '.join(filter(None, (fill, fewer)))}" if fill or fewer else line


def _show_disk(cost: Cost, console: Console) -> None:
    console.print()
    table = _table("on disk", "each", "at most", "in the end", "in all")
    for kept in cost.disk.kept:
        table.add_row(kept.name, _bytes(kept.each), str(kept.most), str(kept.count), _bytes(kept.total))
    console.print(table)


def _sum(config: Config, cost: Cost) -> str:
    total = f"at most {_bytes(cost.disk.most)} on disk, {_bytes(cost.disk.total)} in the end"
    time = ","
    if cost.seconds is not None:
        time = f" in {_time(cost.seconds)} without the queue, {cost.gpu_hours:,.0f} GPU-hours,"
    return f"in all: {config.pipeline.rounds} rounds{time} {cost.jobs} jobs, {total}"


def _table(*heads: str) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for head in heads:
        table.add_column(head, no_wrap=True, justify="right" if head != heads[0] else "left")
    return table


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _at(ordered: Sequence[int], share: float) -> int:
    """The value below which this share of the ordered ones lie; 0 where there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def _bytes(size: float) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"
