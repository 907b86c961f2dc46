"""GAIA's scorer, row by row of its stated semantics, then its edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aworld.tasks.scoring import gaia_correct

pytestmark = pytest.mark.unit

ROWS = [
    # a number: compared as a float after `$`, `%` and `,` are taken out of the answer
    ("17", "17", True),
    ("17.0", "17", True),
    (" 17 ", "17", True),
    ("$1,234.50", "1234.5", True),
    ("45%", "45", True),
    ("1e3", "1000", True),
    ("17.0001", "17", False),
    ("17 apples", "17", False),
    ("seventeen", "17", False),
    ("", "17", False),
    (None, "17", False),
    ("1 000", "1000", False),
    ("-5", "-5", True),
    ("+5", "5", True),
    ("٣", "3", True),  # Python's float reads any Unicode digit
    ("½", "0.5", False),
    # an answer that is no number counts as infinity, the truth's too
    ("nonsense", "inf", True),
    ("12", "inf", False),
    ("nan", "nan", False),
    # a list: split at `,` and `;`, same length, element by element, in order
    ("a,b", "a, b", True),
    ("a;b", "a, b", True),
    ("A , B", "a,b", True),
    ("b, a", "a, b", False),
    ("a", "a, b", False),
    ("a, b, c", "a, b", False),
    ("1, 2.0, $3", "1,2,3", True),
    ("1; 2; x", "1;2;3", False),
    ("a-b, c", "ab, c", False),  # punctuation counts inside a list
    ("a., c", "a., c", True),
    (None, "a, b", False),
    ("1000", "1,000", False),  # a truth with a thousands comma is a list of two
    ("1,000", "1,000", True),
    ("1, 0", "1,000", True),  # and its elements are numbers
    # a string: white space, case and ASCII punctuation do not count
    ("St. Petersburg", "st petersburg", True),
    ("SaintPetersburg", "saint petersburg", True),
    ("sea gull", "seagull", True),
    ("right.", "Right", True),
    ("wrong", "right", False),
    ("Zürich", "zürich", True),
    ("Zurich", "Zürich", False),
    ("tab\tand\nline", "tab and line", True),
    ("“quoted”", "quoted", False),  # only ASCII punctuation is deleted
    ("", "...", True),
    (None, "None", True),  # a missing answer is the string "None"
    (None, "right", False),
]


@pytest.mark.parametrize(("answer", "truth", "right"), ROWS)
def test_row(answer: str | None, truth: str, right: bool) -> None:
    assert gaia_correct(answer, truth) is right


@given(st.integers(-(10**9), 10**9))
def test_thousands_commas_in_the_answer_do_not_count(number: int) -> None:
    assert gaia_correct(f"{number:,}", str(number))


@given(st.text(), st.text())
def test_never_raises(answer: str, truth: str) -> None:
    assert gaia_correct(answer, truth) in (True, False)


@given(st.text(alphabet=st.characters(codec="ascii", categories=("L", "Zs")), min_size=1))
def test_plain_text_is_right_against_itself(text: str) -> None:
    if text.lower().strip() not in ("inf", "infinity", "nan"):
        assert gaia_correct(text, text.upper())
