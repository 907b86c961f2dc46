"""The environments of rivals: made once, anew for other packages, and one line when pip fails."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import rivals

from aworld.errors import InfrastructureError

pytestmark = pytest.mark.tools


def test_an_environment_is_made_once_and_anew_for_other_packages(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    python = rivals.environment("rival", ["pip"], tmp_path)
    prefix = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert Path(prefix.stdout.strip()) == tmp_path / "rival"
    (tmp_path / "rival" / "kept").touch()
    assert rivals.environment("rival", ["pip"], tmp_path) == python
    assert (tmp_path / "rival" / "kept").exists() and capfd.readouterr().err.count("installing") == 1
    with pytest.raises(InfrastructureError, match=r"^rival: pip did not install it: ERROR: .*; see .*install\.log"):
        rivals.environment("rival", [f"{tmp_path}/absent-1-py3-none-any.whl"], tmp_path)
    assert not (tmp_path / "rival" / "kept").exists()
