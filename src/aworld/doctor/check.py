"""Findings of the doctor, one line each."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "degraded", "missing"]


@dataclass(frozen=True)
class Check:
    """Something a run needs.

    Attributes:
        level: ok; degraded: the run works, but without this; missing: it does not work.
        detail: what was found.
        mend: what to do where it is not ok.
    """

    name: str
    level: Level
    detail: str
    mend: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def ok(name: str, detail: str) -> Check:
    return Check(name, "ok", detail)


def degraded(name: str, detail: str, mend: str) -> Check:
    return Check(name, "degraded", detail, mend)


def missing(name: str, detail: str, mend: str) -> Check:
    return Check(name, "missing", detail, mend)
