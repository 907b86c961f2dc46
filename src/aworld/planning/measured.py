"""What the finished rounds of a run took: the figures that replace those of the hardware table."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean, median

from aworld.planning.time import Episodes, Phase
from aworld.rundir import RunDir, numbered
from aworld.trajectories.file import read_table

RECENT = 5  # rounds whose median counts


@dataclass(frozen=True)
class Measured:
    """The newest finished rounds of a run.

    Attributes:
        rounds: how many of them have figures.
        newest: number of the newest one with trajectories, whose episodes are meant below.
        rollout, gather, train: medians of their seconds; None: no round has been trained.
        seconds: of each of its episodes, without the wait for a slot.
        newest_rollout: seconds that its rollout took.
    """

    rounds: int
    newest: int
    episodes: Episodes
    rollout: Phase
    gather: Phase
    train: Phase | None
    seconds: list[float]
    newest_rollout: float


def measured(run: RunDir) -> Measured | None:
    """The figures of a run; None: no round is gathered yet. Reads no tokens.

    Raises:
        InfrastructureError: the newest round's trajectories are damaged.
    """
    finished = (
        folder
        for folder in reversed(numbered(run.root / "rounds"))
        if int(folder.name) > 0  # not the cold start
        and (folder / "timing.json").is_file()
        and run.trajectories(int(folder.name)).exists()
    )
    gathered = [*islice(finished, RECENT)][::-1]
    if not gathered:
        return None
    newest = int(gathered[-1].name)
    table, lengths = read_table(run.trajectories(newest))
    timings = [_read(folder / "timing.json") for folder in gathered]
    trained = [_read(folder / "metrics.json") for folder in gathered if (folder / "metrics.json").is_file()]
    seconds = (table["seconds_generate"].astype(float) + table["seconds_tools"]).tolist()
    return Measured(
        rounds=len(timings),
        newest=newest,
        episodes=Episodes(lengths.tolist(), tool_seconds=fmean(table["seconds_tools"].tolist() or [0.0])),
        rollout=Phase(_median(timings, "rollout_seconds"), _median(timings, "load_seconds")),
        gather=Phase(_median(timings, "gather_seconds")),
        train=Phase(median(one["seconds"]["train"] for one in trained)) if trained else None,
        seconds=seconds,
        newest_rollout=timings[-1]["rollout_seconds"],
    )


def _read(path: Path) -> dict:
    return json.loads(path.read_text())


def _median(rows: list[dict], name: str) -> float:
    return float(median(row[name] for row in rows))
