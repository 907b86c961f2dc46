"""Mathematical equality by math-verify, as a `Program` of `task.py`. It runs in a sandbox, without aworld's rest."""

import re
from typing import Any

from math_verify import parse, verify


def score(request: dict[str, Any]) -> float:
    """1 where `answer` equals `truth`, each in LaTeX or as a plain expression; else 0."""
    return float(verify(parsed(request["truth"]), parsed(request["answer"])))


def parsed(text: str) -> Any:
    """The expressions in a text. LaTeX is found between $ or in \\boxed{} alone; a formula without words gets its $."""
    has_words = re.search(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", "", text))
    return parse(text if has_words or "$" in text or "\\boxed" in text else f"${text}$")
