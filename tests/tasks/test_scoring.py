"""GAIA's scorer: row by row of its stated semantics, against a second one written from them, then its edges."""

import string
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aworld.tasks.scoring import gaia_correct, vote_key

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
    (None, "None", False),  # the one departure: the official scorer takes a missing answer for the text "None"
    (None, "inf", False),
    ("None", "None", True),
    (None, "right", False),
]


@pytest.mark.parametrize(("answer", "truth", "right"), ROWS)
def test_row(answer: str | None, truth: str, right: bool) -> None:
    assert gaia_correct(answer, truth) is right


def parses(text: str) -> bool:
    try:
        return float(text) is not None
    except ValueError:
        return False


def second(answer: str | None, truth: str) -> bool:
    """The rules in words, taken literally: nothing of it is the package's."""

    def value(text: str) -> float:
        for mark in "$%,":
            text = text.replace(mark, "")
        return float(text) if parses(text) else float("inf")

    def squeezed(text: str) -> str:
        return "".join(text.split()).lower()

    def bare(text: str) -> str:
        return "".join(mark for mark in squeezed(text) if mark not in string.punctuation)

    if answer is None:
        return False
    said = answer
    if parses(truth):
        return value(said) == float(truth)
    if not {",", ";"} & set(truth):
        return bare(said) == bare(truth)
    given, wanted = (text.replace(";", ",").split(",") for text in (said, truth))
    if len(given) != len(wanted):
        return False
    return all(
        value(one) == float(other) if parses(other) else squeezed(one) == squeezed(other)
        for one, other in zip(given, wanted, strict=True)
    )


NUMBERS = st.one_of(st.integers(-2000, 2000), st.floats(-2000, 2000), st.sampled_from([0.5, 1000, 1e6])).flatmap(
    lambda n: st.sampled_from([str(n), f"{n:,}", f"${n}", f"{n}%", f" {n}", f"{float(n)}", f"{n:e}", f"{n} km"])
)
WORDS = st.text(alphabet="aAbßİé .,;:-'()!“½\u00a0\t\n3", max_size=6)
ODD = st.sampled_from(
    ["", "None", "none", "inf", "nan", "-Infinity", "1_000", "٣", ".5", "5.", "-5", "5", "1e3", "a. b"]
)
ITEMS = st.one_of(NUMBERS, WORDS, ODD)
LISTS = st.builds(lambda items, mark: mark.join(items), st.lists(ITEMS, min_size=1, max_size=4), st.sampled_from(",;"))
SAID = st.one_of(ITEMS, LISTS)


def rewritings(text: str) -> st.SearchStrategy[str]:
    """What the scorer should often take for the same."""
    ways = [text.upper(), text.lower(), f" {text}\n", f"{text}.", text.replace(",", ";"), text.replace(", ", ",")]
    return st.sampled_from([text, *ways, text.replace(",", ", "), f"${text}", text.replace(" ", ""), text[::-1]])


@given(SAID.flatmap(lambda truth: st.tuples(st.one_of(st.none(), SAID, rewritings(truth)), st.just(truth))))
def test_a_second_scorer_says_the_same(pair: tuple[str | None, str]) -> None:
    assert gaia_correct(*pair) is second(*pair)


@pytest.mark.parametrize(("answer", "truth", "right"), ROWS)
def test_the_second_scorer_holds_to_the_rows(answer: str | None, truth: str, right: bool) -> None:
    assert second(answer, truth) is right


@pytest.mark.parametrize(
    "one",
    [
        {"12", "12.0", " 12", "$12", "12%", "1.2e1"},
        {"1,000", "1000", "$1,000.00", "1e3"},
        {"-5", "-5.0"},
        {"5"},
        {".5", "0.5", "0.50"},
        {"a, b", "A,b", "a;B"},
        {"a., b"},
        {"1, 2", "1;2.0", "1,2"},
        {"1, 000"},
        {"St. Petersburg", "st petersburg", "StPetersburg."},
        {"nan", "NaN!"},
    ],
    ids=lambda one: str(sorted(one)),  # a set has another order in each process
)
def test_writings_of_one_answer_have_one_vote(one: set[str]) -> None:
    assert len({vote_key(answer) for answer in one}) == 1
    others = ["12.5", "1001", "5.1", "a, b, c", "b, a", "1, 2, 3", "Petersburg"]
    assert not {vote_key(answer) for answer in one} & {vote_key(answer) for answer in others}
    assert vote_key("-5") != vote_key("5") != vote_key(".5")


def kind(text: str) -> object:
    """What the scorer takes a truth for."""
    if parses(text):
        return float
    if {",", ";"} & set(text):
        return tuple(float if parses(part) else str for part in text.replace(";", ",").split(","))
    return str


def kind_of_vote(answer: str) -> object:
    key = vote_key(answer)
    return tuple(map(type, key)) if isinstance(key, tuple) else type(key)


@given(
    st.lists(SAID.flatmap(lambda text: st.tuples(st.just(text), rewritings(text))), min_size=1, max_size=8), st.data()
)
def test_answers_with_one_vote_are_scored_alike(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    """Against any truth of the kind that they look like."""
    said = [text for pair in pairs for text in pair]
    truths = [*said, data.draw(SAID), data.draw(NUMBERS)]
    for one, other in combinations(said, 2):
        if vote_key(one) == vote_key(other):
            for truth in truths:
                if kind(truth) == kind_of_vote(one):
                    assert second(one, truth) is second(other, truth)


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
