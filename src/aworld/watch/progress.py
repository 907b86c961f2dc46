"""A run under way on the console: a bar for each stage at work, a line for each finished workload."""

import json
import time
from itertools import groupby
from types import TracebackType

from rich import progress as bars
from rich.console import Console

from aworld.config import Config
from aworld.evaluation.statistics import headline
from aworld.phase import Phase
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir
from aworld.trajectories import journal
from aworld.watch.status import StageStatus, status


class Progress:
    """Bars and lines, from the run's files at every `update`. A console that is no terminal gets only the lines."""

    def __init__(self, console: Console, config: Config, run: RunDir, workloads: list[Workload]):
        self.console, self.config, self.run = console, config, run
        self.workloads = {workload.name: workload for workload in workloads}
        self.live = bars.Progress(
            bars.TextColumn("{task.description:<32}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.bars_shown: dict[tuple[str, str], bars.TaskID] = {}
        self.over: set[str] = set()
        self.began = time.monotonic()
        self.is_first = True

    def __enter__(self) -> "Progress":
        self.live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.live.stop()

    def update(self) -> None:
        before: list[str] = []
        begun: dict[tuple[str, str], StageStatus] = {}
        going = [workload for name, workload in self.workloads.items() if name not in self.over]
        for name, group in groupby(status(self.config, self.run, going), lambda s: s.workload):
            stages = list(group)
            if all(stage.finished for stage in stages):
                self.over.add(name)
                if self.is_first:
                    before.append(name)
                    continue
                seconds = time.monotonic() - self.began
                self.console.print(
                    f"{seconds:6.0f} s  {name:<14} {self._outcome(name)}", highlight=False, soft_wrap=True
                )
            else:
                begun |= {(s.kind.name, s.workload): s for s in stages if s.done and not s.finished}
        self.is_first = False
        if before:
            self.console.print(f"finished before: {', '.join(before)}", highlight=False, soft_wrap=True)
        for key in [*self.bars_shown]:
            if key not in begun:
                self.live.remove_task(self.bars_shown.pop(key))
        for key, stage in begun.items():
            if key not in self.bars_shown:
                self.bars_shown[key] = self.live.add_task(" · ".join(key), total=stage.total, note="")
            note = "" if stage.loss is None else f"last loss {stage.loss:.3f}"
            if stage.spread:
                note = f"{stage.spread.found} of {stage.spread.wanted} groups with spread"
            self.live.update(self.bars_shown[key], completed=stage.done, total=stage.total, note=note)

    def _outcome(self, name: str) -> str:
        workload = self.workloads[name]
        if workload.phase is Phase.EVALUATION:
            return headline(list(workload.tasks), journal.records(workload.folder / "journals"), workload.attempts)
        metrics, timing, rewards = (_json(workload, name) for name in ("metrics", "timing", "rewards"))
        if workload.phase is Phase.COLD_START:
            return self._cold_start(metrics)
        groups, of_one_reward = metrics.get("groups"), metrics.get("groups_of_one_reward")
        note = ""
        if groups and groups == of_one_reward:
            note = f"; in all {groups} groups every attempt has one reward: nothing to learn from"
        elif groups and workload.enough is not None:
            note = f"; {groups - of_one_reward} of {groups} groups with spread, wanted {workload.enough}"
        parts = ", ".join(f"{name} {value:.3f}" for name, value in rewards.get("parts", {}).items())
        rollout = f"({parts})  rollout" if parts else " rollout"
        return (
            f"reward {metrics.get('reward', 0):.3f} {rollout} {timing.get('rollout_seconds', 0):.0f} s  "
            f"training {metrics.get('seconds', {}).get('train', 0):.1f} s in {metrics.get('steps', 0)} steps{note}"
        )

    def _cold_start(self, metrics: dict) -> str:
        cold, repeats = self.config.training.cold_start, metrics.get("repeats", 0.0)
        reward = f"reward of {cold.played_by} {metrics.get('reward', 0):.3f}  "
        if cold.conversations:
            reward = f"{metrics.get('reward', 0):.1%} of the conversations fit the context  "
        found = f"training {metrics.get('seconds', {}).get('train', 0):.1f} s in {metrics.get('steps', 0)} steps  "
        chance = f"the policy repeats its episodes with chance {repeats:.3f}"
        if cold.stop_at >= 1:
            return reward + found + chance
        reached = "reached" if repeats >= cold.stop_at else "not reached: raise training.cold_start.tasks or .epochs"
        return f"{reward}{found}{chance}; stop_at {cold.stop_at:g} {reached}"


def _json(workload: Workload, name: str) -> dict:
    path = workload.folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}
