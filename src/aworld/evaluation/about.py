"""What an evaluation was made with: the model, the settings that decide its figures, the code, and when."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from aworld.config import Config, decisive_sections, read_provenance
from aworld.evaluation import benchmark
from aworld.rundir import HELD_OUT, RunDir


def about(run: RunDir, name: str, version: int) -> dict[str, Any]:
    """For report.json and the page: `model`, `settings`, `provenance` and `played`, the time (UTC) of the last episode.

    `settings` holds the whole sections of the configuration that the figures depend on.
    """
    config, _, _ = benchmark.read(run, name)
    path = run.config if name == HELD_OUT else run.benchmark(name)
    sections: Any = OmegaConf.to_container(OmegaConf.structured(config))
    return {
        "model": _model(config, run, version),
        "settings": {key: sections[key] for key in (*decisive_sections(), "model")},
        "provenance": read_provenance(path),
        "played": _last_written(run.evaluation(name, version)),
    }


def _model(config: Config, run: RunDir, version: int) -> str:
    endpoint = config.evaluation.endpoint
    if endpoint.model:
        return f"{endpoint.model} at {endpoint.base_url}"
    return f"policy {version} of {run.root}, {config.model.name}" + (
        f" from {path}" if (path := config.model.path) else ""
    )


def _last_written(folder: Path) -> str | None:
    times = [path.stat().st_mtime for path in folder.glob("journals/*.journal")]
    return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%d %H:%M") if times else None
