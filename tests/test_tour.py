"""Every file and name of docs/tour.md is there."""

import ast
import re
from pathlib import Path

import pytest

import aworld

pytestmark = pytest.mark.unit
SOURCE = Path(aworld.__file__).parent
ROOT = SOURCE.parents[1]
TOUR = (ROOT / "docs" / "tour.md").read_text()
NAMES = re.findall(r"`([a-z_/]+\.py):([\w.]+)`", TOUR)
FILES = re.findall(r"`([\w/]+\.(?:py|j2|md))`", TOUR)


def place(file: str) -> Path:
    return next(path for path in (SOURCE / file, ROOT / file) if path.is_file())


def defined(path: Path) -> set[str]:
    """The functions and classes of a module, and the methods of its classes as Class.method."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found


def test_the_tour_names_enough_to_be_one() -> None:
    assert len(set(NAMES)) > 30


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMES)))
def test_a_name_of_the_tour_is_there(file: str, name: str) -> None:
    assert name in defined(place(file))


@pytest.mark.parametrize("file", sorted(set(FILES)))
def test_a_file_of_the_tour_is_there(file: str) -> None:
    assert place(file)
