"""Policies of a trainer in four ranks, whole and as deltas, against what mbridge exports to one file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aworld.policies.folder import chain, deltas_in
from aworld.policies.reading import copy_policy
from aworld.publish import damaged, is_complete
from aworld.rundir import RunDir

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

PROGRAM = Path(__file__).with_name("published_in_layout.py")
VERSIONS = 5


@pytest.fixture(scope="module", params=["untied", pytest.param("tied", marks=pytest.mark.deep)])
def run(
    request: pytest.FixtureRequest, checkpoint: Callable[..., Path], torchrun: Callable[..., None], once: Callable
) -> RunDir:
    def train(root: Path) -> None:
        (root / "base").symlink_to(checkpoint(0, request.param == "tied"))
        torchrun(PROGRAM, 4, str(root), str(VERSIONS))

    return RunDir(once(f"published-{request.param}", train))


def test_each_policy_is_bit_for_bit_that_of_one_file(run: RunDir, tmp_path: Path) -> None:
    for version in range(1, VERSIONS + 1):
        assert is_complete(run.policy(version)) and not damaged(run.policy(version))
        copy_policy(run, version, tmp_path)
        files = [load_file(file) for file in sorted(tmp_path.glob("*.safetensors"))]
        expected = load_file(run.root / f"{version}.safetensors")
        assert len(files) == 4 and sum(map(len, files)) == len(expected)  # each rank wrote tensors of its own
        found = {name: tensor for file in files for name, tensor in file.items()}
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_between_whole_policies_there_are_small_deltas(run: RunDir) -> None:
    assert [chain(run, version) for version in range(1, VERSIONS + 1)] == [[1], [1, 2], [3], [3, 4], [3, 4, 5]]
    weights = {version: size(run.policy(version), "*.safetensors*") for version in range(1, VERSIONS + 1)}
    for version in (2, 4, 5):
        deltas = deltas_in(run.policy(version))
        assert deltas and deltas.base == version - 1 and len(deltas.files) == 4
        assert weights[version] < 0.5 * weights[3]


def size(folder: Path, pattern: str) -> int:
    return sum(file.stat().st_size for file in folder.glob(pattern))
