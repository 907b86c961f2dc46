"""Small real checkpoints, tasks and an image, made once."""

import fcntl
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import environment_image as environment_image_of
import hypothesis
import pytest
import qwen3_tokenizer
import warm
import wheel
from minutes import TIERS, Minutes, tier

from aworld import config as configuration
from aworld.config import Config, Tasks, Yarn
from aworld.environments.sandbox import Sandbox, choose
from aworld.errors import InputError
from aworld.launch.prepare import texts
from aworld.models.positions import set_yarn
from aworld.tasks.synthetic import SyntheticTasks

hypothesis.settings.register_profile("aworld", deadline=None)  # an example may take long where many share the machine
hypothesis.settings.load_profile("aworld")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--minutes", metavar="NAME", help="record the minutes of each tier under this name")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--minutes")
    if name and not hasattr(config, "workerinput"):  # xdist's workers report to the process that started them
        is_whole = config.args_source is config.ArgsSource.TESTPATHS and not config.getoption("keyword")
        config.pluginmanager.register(Minutes(name, is_whole))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where one tier alone is asked for, files without it are not even imported, nor what they import."""
    wanted = config.getoption("-m")
    is_test = collection_path.name.startswith("test_") and collection_path.suffix == ".py"
    return True if is_test and wanted in TIERS and f"mark.{wanted}" not in collection_path.read_text() else None


@pytest.hookimpl(trylast=True)  # after -m has left some out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files come in the order of their least demanding tests, unit tests last, so that the workers end together.

    Among those of one tier the files with the longest time limits come first: they take longest.
    """
    places: dict[Path, tuple[int, float]] = {}
    for item in items:
        item.user_properties.append(("tier", tier(item)))
        limit = item.get_closest_marker("timeout")
        place, longest = places.get(item.path, (0, 0.0))
        places[item.path] = max(place, TIERS.index(tier(item))), min(longest, -limit.args[0] if limit else 0.0)
    items.sort(key=lambda item: places[item.path])


@pytest.fixture(scope="session")
def config() -> Config:
    """The demo's configuration with few tasks."""
    return configuration.load(["recipe=demo", "tasks.train=120", "tasks.held_out=20"])


@pytest.fixture(scope="session")
def source(config: Config, tmp_path_factory: pytest.TempPathFactory) -> SyntheticTasks:
    return SyntheticTasks(Tasks(source="synthetic", train=120, held_out=20), tmp_path_factory.mktemp("tasks") / "tasks")


@pytest.fixture(scope="session")
def checkpoint(config: Config, source: SyntheticTasks, once: Callable[..., Path]) -> Callable[..., Path]:
    """`checkpoint(seed, tied, yarn)`: an HF folder with random weights; with YaRN it was trained on 16 positions."""

    def make(seed: int = 0, tied: bool = False, yarn: bool = False) -> Path:
        architecture = replace(config.model.architecture, tie_word_embeddings=tied, num_hidden_layers=4)

        def fill(folder: Path) -> None:
            from aworld.models.tiny import make_checkpoint  # importing torch takes seconds

            if yarn:
                shutil.copytree(make(seed, tied), folder, dirs_exist_ok=True)
                set_yarn(folder, Yarn(64.0, 16))
            else:
                make_checkpoint(architecture, texts(config, source), seed, folder)

        return once(f"checkpoint-{seed}-{'tied' if tied else 'untied'}{'-yarn' if yarn else ''}", fill)

    return cache(make)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """`once(name, make)`: a folder that `make(folder)` fills, once for all workers of a session."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        path, done = shared / f"once-{name}", shared / f"once-{name}.done"
        with open(shared / f"once-{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(path, ignore_errors=True)  # of a try that failed
                path.mkdir()
                make(path)
                done.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def torchrun() -> Callable[..., None]:
    """`torchrun(program, ranks, *words)`: run a program in so many ranks on this machine, as torchrun does."""

    def run(program: Path, ranks: int, *words: str) -> None:
        from torch.distributed import TCPStore  # importing torch takes seconds

        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        ways = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(ranks)}
        ways |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}  # the store above
        variables = [{**ways, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
        done = warm.run(program, *words, variables=variables)
        assert not any(rank.returncode for rank in done), "\n".join(rank.stderr[-2000:] for rank in done)

    return run


@pytest.fixture(scope="session", params=["subprocess", "bubblewrap", "apptainer"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """Each that works here."""
    image = request.getfixturevalue("environment_image") if request.param == "apptainer" else ""
    try:
        return choose(request.param, str(image))
    except InputError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def environment_image() -> Path:
    """The environment image: AWORLD_ENVIRONMENT_IMAGE, else built from this machine's Debian mirror and kept."""
    if given := os.environ.get("AWORLD_ENVIRONMENT_IMAGE"):
        return Path(given)
    try:
        return environment_image_of.environment_image()
    except InputError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def user(once: Callable[..., Path], tmp_path: Path) -> wheel.User:
    """Somebody with the wheel, in an empty folder."""
    for name in ("home", "place"):
        (tmp_path / name).mkdir()
    python = once("wheel", wheel.install) / "venv" / "bin" / "python"
    return wheel.User(python, tmp_path / "home", tmp_path / "place")


@pytest.fixture(scope="session")
def qwen3() -> Path:
    """The folder of Qwen3's own tokenizer and chat template; no weights."""
    try:
        return qwen3_tokenizer.qwen3_tokenizer()
    except InputError as reason:
        pytest.skip(str(reason))
