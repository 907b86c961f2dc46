"""Weights & Biases: offline, unless WANDB_MODE says otherwise. Variables WANDB_… of the user's go before our choices.

All processes write to one W&B run. Its step is the entry's place. Online W&B leaves out a step that is there already.
Offline each call makes a folder named by its first entry, and a repeat replaces that folder.
"""

import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at the import

import wandb

from aworld.publish import begin_folder, finish_folder, sweep
from aworld.trackers.tracker import About, Entry


class WeightsAndBiases:
    """Folders `trackers/wandb/offline-run-…`, which `wandb sync` uploads; or the run online."""

    def __init__(self, about: About):
        self._about = about

    def write(self, entries: Sequence[Entry]) -> None:
        folder = self._about.folder
        began = datetime.fromtimestamp(entries[0].time, UTC)  # no two entries have the same second
        key = os.environ.get("WANDB_RUN_ID", self._about.key)
        published = folder / f"offline-run-{began:%Y%m%d_%H%M%S}-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        temporary = begin_folder(published)
        try:
            run = wandb.init(
                id=key,
                project=os.environ.get("WANDB_PROJECT", self._about.name),
                name=os.environ.get("WANDB_NAME", self._about.name),
                mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
                resume="allow",
                dir=str(temporary),
                config=dict(self._about.settings),
                settings=wandb.Settings(
                    console="off",
                    silent=True,
                    disable_git=True,
                    save_code=False,
                    disable_job_creation=True,
                    x_disable_stats=True,
                    x_disable_machine_info=True,
                ),
            )
            _name_axes(run, entries)
            for entry in entries:
                run.log({_axis(entry): entry.step, **entry.figures}, step=entry.place)
            run.finish()
            for made in (temporary / "wandb").glob("offline-run-*-*"):
                finish_folder(made, published)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _axis(entry: Entry) -> str:
    return f"evaluation/{entry.benchmark}/policy" if entry.benchmark else "round"


def _name_axes(run: "wandb.Run", entries: Sequence[Entry]) -> None:
    """Let charts of rounds have the round as their axis, and those of evaluations the policy's version."""
    axes = {name: _axis(entry) for entry in entries for name in entry.figures}
    for axis in dict.fromkeys(axes.values()):
        run.define_metric(axis, hidden=True)
    for name, axis in axes.items():
        run.define_metric(name, step_metric=axis)
