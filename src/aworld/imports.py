"""Imports of large libraries at less cost: on many ranks at once they are what a start waits for."""

import gc
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


@contextmanager
def without_collecting() -> Iterator[None]:
    """Look for no garbage while modules come, and in them never again: a fifth of what thousands of them take."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def enter_without_running(package: str, folder: str) -> None:
    """Let modules of `package.folder` be imported without its `__init__`, which would import all of them."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations is not None
    module = ModuleType(f"{package}.{folder}")
    module.__path__ = [str(Path(place) / folder) for place in spec.submodule_search_locations]
    sys.modules.setdefault(module.__name__, module)
