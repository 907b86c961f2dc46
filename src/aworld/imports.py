"""Faster imports of large libraries: with many ranks on a node they take most of the time of a start."""

import gc
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


@contextmanager
def without_collecting() -> Iterator[None]:
    """Collect no garbage during imports, and never in the imported modules. It would take a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def beside_a_loop(module: str) -> ModuleType:
    """Import a module in a thread, while the event loop of another one goes on.

    The loop gets the interpreter back within a tenth of a millisecond, not within Python's five.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.enable()
        sys.setswitchinterval(usual)


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """Within it, these modules seem not to be installed. Their importers have to allow that."""
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None is how Python marks them
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def without_listing_packages() -> Iterator[None]:
    """Within it, a package's distribution is found by the package's name, as long as the two have one name.

    The import of transformers lists the files of all installed packages. It asks for two of them.
    """
    whole = importlib.metadata.packages_distributions

    class ByName(dict[str, list[str]]):
        def get(self, package: str, default: Any = None) -> Any:
            try:
                return [importlib.metadata.distribution(package).name]
            except importlib.metadata.PackageNotFoundError:
                return whole().get(package, default)

    importlib.metadata.packages_distributions = ByName
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = whole


def enter_without_running(package: str, folder: str) -> None:
    """Let single modules of `package.folder` be imported without its `__init__`, which would import all of them."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations is not None
    module = ModuleType(f"{package}.{folder}")
    module.__path__ = [str(Path(place) / folder) for place in spec.submodule_search_locations]
    sys.modules.setdefault(module.__name__, module)
