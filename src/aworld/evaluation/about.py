"""What a run or an evaluation was made with: the model, the settings, the code, and when."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf

from aworld.config import Config, decisive_sections, read_provenance
from aworld.evaluation import benchmark
from aworld.rundir import HELD_OUT, RunDir

LONGEST = 200  # characters of a value that is shown
OF_THE_PLACE = ("name", "runs", "site")  # settings that say where a run is, not what it does


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
        "played": last_written(run.evaluation(name, version).glob("journals/*.journal")),
    }


def own_settings(config: Config, sections: list[str] | None = None) -> dict[str, dict[str, tuple[str, str]]]:
    """The settings that differ from the defaults of the schema: by section and name, the value and the default.

    The default is empty where the schema has none. Where a run is, and on which site, is left out.

    Args:
        sections: those wanted; None: all.
    """
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for name, value, default in _differing(config, type(config)(), ""):
        section, _, rest = name.partition(".")
        if section not in OF_THE_PLACE and (sections is None or section in sections):
            found.setdefault(section, {})[rest or section] = (
                _short(value),
                "" if default == MISSING else _short(default),
            )
    return found


def _differing(config: Any, default: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    for one in fields(config):
        value, usual = getattr(config, one.name), getattr(default, one.name)
        full = f"{name}.{one.name}" if name else one.name
        if is_dataclass(value):
            yield from _differing(value, usual, full)
        elif isinstance(value, dict) and any(map(is_dataclass, value.values())):
            for key, section in value.items():
                yield from _differing(section, type(section)(), f"{full}.{key}")
        elif value != usual:
            yield full, value, usual


def _short(value: Any) -> str:
    """A value in one line of JSON, a text as it is."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def sandbox(folder: Path) -> dict[str, Any]:
    """The sandbox that tools ran in: its name and gaps. Empty before one started."""
    path = folder / "sandbox.json"
    return json.loads(path.read_text()) if path.exists() else {}


def made_of(config: Config) -> str:
    """The name of the run's model, and where it is from."""
    return config.model.name + (f" from {path}" if (path := config.model.path) else "")


def _model(config: Config, run: RunDir, version: int) -> str:
    endpoint = config.evaluation.endpoint
    if endpoint.model:
        return f"{endpoint.model} at {endpoint.base_url}"
    return f"policy {version} of {run.root}, {made_of(config)}"


def last_written(files: Iterable[Path]) -> str | None:
    """When the last of these files was written (UTC); None: there is none."""
    times = [path.stat().st_mtime for path in files]
    return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%d %H:%M") if times else None
