"""A real Slurm for the tests of this folder; they are skipped where its packages are missing."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster import Cluster, missing
from slurm_conf import Settings
from small_run import Run, prepare

from aworld.rundir import RunDir


@pytest.fixture(scope="session")
def make_cluster() -> Iterator[Callable[[Settings], Cluster]]:
    """`make_cluster(settings)`: one more running cluster, which ends with the session."""
    if reason := missing():
        pytest.skip(reason)
    with ExitStack() as ends:

        def make(settings: Settings) -> Cluster:
            cluster = Cluster.temporary(settings)
            ends.callback(cluster.stop)
            cluster.start()
            return cluster

        yield make


@pytest.fixture(scope="session")
def shared_cluster(make_cluster: Callable[[Settings], Cluster]) -> Cluster:
    """Four nodes of 16 CPUs and 8 GPUs, with accounting and the user signal at preemption."""
    return make_cluster(Settings())


@pytest.fixture
def cluster(shared_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The shared cluster, empty and whole; Slurm's commands and submitit find it in the environment."""
    for name, value in shared_cluster.env.items():
        monkeypatch.setenv(name, value)
    yield shared_cluster
    shared_cluster.restore()


@pytest.fixture
def short_folder(make_cluster: Callable[[Settings], Cluster]) -> Path:
    """The path of a folder that is not there, short enough for sockets, on a machine with Slurm."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.rmdir()
    return folder


@pytest.fixture(scope="session")
def deaf_cluster(make_cluster: Callable[[Settings], Cluster]) -> Cluster:
    """Preempted jobs hear of it by SIGTERM alone; no accounting."""
    return make_cluster(Settings(user_signal=False, accounting=False, grace=5))


@pytest.fixture
def without_signal(deaf_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name, value in deaf_cluster.env.items():
        monkeypatch.setenv(name, value)
    return deaf_cluster


@pytest.fixture(scope="session")
def trained(environment_image: Path, once: Callable[..., Path]) -> Run:
    """A run whose round 0 is played, gathered and trained, undisturbed."""
    images = [f"site.images.{name}={environment_image}" for name in ("environment", "vllm", "megatron")]

    def make(folder: Path) -> None:
        run = prepare(folder, "name=base", *images)
        for words in (("rollout", "--round", "0"), ("gather", "--round", "0"), ("train", "--round", "0")):
            done = run.command(*words)
            assert done.returncode == 0, done.stderr

    return Run(RunDir(once("trained", make) / "base"))
