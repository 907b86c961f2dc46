import gc
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec

import pytest

from aworld.imports import enter_without_running, without, without_collecting, without_listing_packages

pytestmark = pytest.mark.unit


def test_garbage_waits_while_modules_come_and_is_looked_for_afterwards():
    gc.unfreeze()
    try:
        with pytest.raises(ImportError), without_collecting():
            assert not gc.isenabled()
            import no_such_module  # noqa: F401
        assert gc.isenabled() and gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()


def test_a_module_of_a_folder_comes_without_its_neighbours(tmp_path, monkeypatch):
    folder = tmp_path / "families_of_models" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("from . import models\n")
    (folder / "__init__.py").write_text("raise AssertionError('all of them')\n")
    (folder / "one.py").write_text("NAME = 'one'\n")
    monkeypatch.syspath_prepend(tmp_path)
    enter_without_running("families_of_models", "models")
    try:
        from families_of_models.models.one import NAME  # type: ignore[import-not-found]

        assert NAME == "one"
    finally:
        for name in [name for name in sys.modules if name.startswith("families_of_models")]:
            del sys.modules[name]


def test_a_module_is_missing_meanwhile_and_not_afterwards(tmp_path, monkeypatch):
    (tmp_path / "needless_filters.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with without("needless_filters", "sys"):
        assert find_spec("needless_filters") is None
        with pytest.raises(ImportError):
            import needless_filters  # type: ignore[import-not-found]
        assert sys.modules["sys"] is sys  # what is there stays
    import needless_filters

    assert sys.modules.pop("needless_filters") is needless_filters


def test_a_distribution_is_found_by_the_name_of_its_package_and_else_as_ever():
    whole = metadata.packages_distributions
    everything = whole()
    with without_listing_packages():
        found = metadata.packages_distributions()
        assert found is not everything and not found  # nothing is read before it is asked for
        for package in ("torch", "tokenizers", "PIL", "yaml", "mpi4py"):  # two distributions have other names
            assert found.get(package, []) == everything[package]
        assert found.get("no_such_package", []) == []
    assert metadata.packages_distributions is whole


def test_a_worker_imports_neither_engine_nor_what_few_workers_need():
    """Each takes up to seconds. They are imported where a policy, a program or a server at an address needs one."""
    code = "import sys, aworld.cli, aworld.rollout.stage, aworld.evaluation.benchmark; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert "aworld.environments.pool" in modules
    assert modules & {"torch", "vllm", "megatron", "transformers", "matplotlib", "mcp", "aiohttp"} == set()
