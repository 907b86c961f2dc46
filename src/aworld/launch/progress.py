"""Progress bars of a run under way, read from its files."""

import time
from types import TracebackType

from rich import progress as bars
from rich.console import Console

from aworld.config import Config
from aworld.launch.status import StageStatus, status
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir


class Progress:
    """A bar per stage once it has begun; one printed line per finished stage where there is no terminal."""

    def __init__(self, console: Console, config: Config, run: RunDir, workloads: list[Workload]):
        self.console, self.config, self.run, self.workloads = console, config, run, workloads
        self.live = bars.Progress(
            bars.TextColumn("{task.description:<38}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.tasks: dict[tuple[str, str], bars.TaskID] = {}
        self.finished: set[tuple[str, str]] = set()
        self.began = time.monotonic()

    def __enter__(self) -> "Progress":
        self.live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.live.stop()

    def update(self) -> None:
        for stage in status(self.config, self.run, self.workloads):
            key = (stage.stage, stage.part)
            if key in self.finished or not (stage.done or stage.finished):
                continue
            if key not in self.tasks:
                description = f"{stage.stage} · {stage.part}"
                self.tasks[key] = self.live.add_task(description, total=stage.total, note="")
            self.live.update(self.tasks[key], completed=stage.done, total=stage.total, note=stage.note)
            if stage.finished:
                self._finish(key, stage)

    def _finish(self, key: tuple[str, str], stage: StageStatus) -> None:
        self.finished.add(key)
        self.live.stop_task(self.tasks[key])
        if not self.console.is_terminal:
            elapsed = time.monotonic() - self.began
            self.console.print(
                f"{elapsed:7.1f} s  {stage.stage} · {stage.part}: {stage.done}/{stage.total} {stage.note}"
            )
