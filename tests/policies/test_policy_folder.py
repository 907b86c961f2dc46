"""Policies on disk: whole ones, deltas, chains, and what is noticed when one of them is not what it was."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from random_policies import NAMES, assert_is, expected, publish
from safetensors.numpy import load_file

from aworld import config as configuration
from aworld.cli import main
from aworld.config import Config
from aworld.errors import InfrastructureError
from aworld.policies import weights
from aworld.policies.folder import DELTAS, SUFFIX, bases, chain, contents, damaged, deltas_in
from aworld.policies.reading import copy_policy
from aworld.policies.weights import Tensor
from aworld.policies.writing import Writer
from aworld.publish import publish_text
from aworld.rundir import RunDir

pytestmark = pytest.mark.unit


def test_a_chain_ends_in_the_policy_that_was_written(run: RunDir, tmp_path: Path) -> None:
    for version in range(4):
        copy_policy(run, version, tmp_path)
        assert_is(tmp_path, version)
        assert chain(run, version) == list(range(version + 1))
        assert bases(run, version) == list(range(version))
        assert not damaged(run, version)
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["config.json", *NAMES]


def test_what_is_no_delta_to_the_version_before_is_whole(run: RunDir) -> None:
    writer = Writer(keeps=True)
    publish(run, writer, 4, expected(4), 3)  # this writer knows nothing of version 3
    assert deltas_in(run.policy(4)) is None
    files = expected(5)
    files[NAMES[0]] = np.random.default_rng(1).integers(0, 2**16, 30_000, np.uint16)  # a delta would be as large
    publish(run, writer, 5, files, 4)
    deltas = deltas_in(run.policy(5))
    assert deltas and list(deltas.files) == [NAMES[1]]
    assert (run.policy(5) / NAMES[0]).read_bytes() == files[NAMES[0]].tobytes()


def test_a_writer_that_was_started_again_goes_on_from_what_is_published(run: RunDir) -> None:
    writer, files = Writer(keeps=True), expected(3)
    files[NAMES[0]] = files[NAMES[0]] + np.uint16(1)  # not what was published
    writer.recall(3, [(name, words.view(np.uint8)) for name, words in files.items()], contents(run.policy(3)))
    publish(run, writer, 4, expected(4), 3)
    deltas = deltas_in(run.policy(4))
    assert deltas and list(deltas.files) == [NAMES[1]] and chain(run, 4) == [0, 1, 2, 3, 4]


def test_a_base_that_is_gone_or_was_made_anew_is_noticed(run: RunDir) -> None:
    shutil.rmtree(run.policy(1))
    with pytest.raises(InfrastructureError, match="policy 2 is a delta to policy 1, which is gone or was made anew"):
        chain(run, 3)
    assert bases(run, 3) == [1, 2]
    assert damaged(run, 2) == damaged(run, 3) == [DELTAS] and not damaged(run, 0)
    publish(run, Writer(), 1, expected(1))  # the same bits
    assert chain(run, 3) == [1, 2, 3]
    shutil.rmtree(run.policy(1))
    publish(run, Writer(), 1, expected(2))
    assert damaged(run, 2) == [DELTAS]


@pytest.mark.parametrize("version", [0, 2, 3])
def test_flipped_bits_anywhere_in_the_chain_are_noticed(version: int, run: RunDir, tmp_path: Path) -> None:
    path = run.policy(version) / (NAMES[1] + (SUFFIX if version else ""))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    with pytest.raises(InfrastructureError, match=f"{run.policy(version)} is damaged \\({path.name}\\) and not used"):
        copy_policy(run, 3, tmp_path)


def test_the_command_writes_the_hf_folder_of_any_version(
    run: RunDir, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_text(run.config, configuration.to_yaml(config, {}))
    out = tmp_path / "out"
    assert main(["policy", "export", str(run.root), "2", str(out)]) == 0
    assert_is(out, 2)
    assert main(["policy", "export", str(run.root), "2", str(out)]) == 2
    assert main(["policy", "export", str(run.root), "7", str(tmp_path / "other")]) == 2
    said = capsys.readouterr().err
    assert "is there already" in said and "has no policy 7 yet; there are: 0, 1, 2, 3" in said


def test_the_header_is_one_that_safetensors_reads(tmp_path: Path) -> None:
    values = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.weight": np.ones(5, np.float32)}
    head = weights.header([Tensor(name, "F32", each.shape) for name, each in values.items()])
    (tmp_path / "file").write_bytes(head + b"".join(each.tobytes() for each in values.values()))
    found = load_file(tmp_path / "file")
    assert found.keys() == values.keys() and all(np.array_equal(found[name], values[name]) for name in values)


def test_writers_share_the_bytes_evenly() -> None:
    sizes = [100, 1, 50, 50, 1, 49, 49]
    writers = weights.share(sizes, 3)
    assert sorted(sum(size for size, its in zip(sizes, writers, strict=True) if its == w) for w in range(3)) == [
        *(100, 100, 100),
    ]
