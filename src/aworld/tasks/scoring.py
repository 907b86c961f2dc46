"""Whether an answer is right, by the rules of GAIA's official scorer (arXiv 2311.12983; the leaderboard's `scorer.py`).

The truth decides how the two are compared: as a number, as a list, or as a string. There is no tolerance and no unit
stripping. The official quirks are kept, since a score is comparable only under the same rules: an answer that is no
number counts as infinity, and so is right where the truth is "inf". One is not: the official scorer reads a missing
answer as the text "None", which would be right where the truth is "None". Here a missing answer is never right.
"""

import math
import re
import string
from collections.abc import Hashable

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")


def gaia_correct(answer: str | None, truth: str) -> bool:
    """Whether `answer` matches the gold answer `truth`; no answer matches none."""
    if answer is None:
        return False
    if _is_number(truth):
        return _number(answer) == float(truth)
    if "," in truth or ";" in truth:
        truths, answers = (re.split("[,;]", text) for text in (truth, answer))
        return len(truths) == len(answers) and all(map(_element_correct, answers, truths))
    return _squeeze(answer).translate(_WITHOUT_PUNCTUATION) == _squeeze(truth).translate(_WITHOUT_PUNCTUATION)


def vote_key(answer: str) -> Hashable:
    """A key that is equal for answers that the scorer reads alike; a majority vote counts them as one.

    A number is its value, a list its elements, and any other text is squeezed as the scorer does it. Commas are a
    number's only where they part thousands. Two answers with one key are scored alike against any truth of that kind.
    """
    if "," not in answer or _THOUSANDS.fullmatch(re.sub(r"[\s$%]", "", answer)):
        number = _number(answer)
        if math.isfinite(number):
            return number
    if "," in answer or ";" in answer:
        return tuple(map(_element_key, re.split("[,;]", answer)))
    return _squeeze(answer).translate(_WITHOUT_PUNCTUATION)


def _element_key(answer: str) -> Hashable:
    number = _number(answer)
    return number if math.isfinite(number) else _squeeze(answer)


def _element_correct(answer: str, truth: str) -> bool:
    if _is_number(truth):
        return _number(answer) == float(truth)
    return _squeeze(answer) == _squeeze(truth)  # punctuation counts inside a list


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> float:
    try:
        return float(re.sub("[$%,]", "", text))
    except ValueError:
        return float("inf")


def _squeeze(text: str) -> str:
    return re.sub(r"\s", "", text).lower()
