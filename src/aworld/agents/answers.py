"""The forms in which models give a final answer, and how it is read from their words."""

import re

from aworld.errors import InputError

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_FINAL = re.compile(r"(?:FINAL ANSWER|Final [Aa]nswer|^[ *`#>]*(?:[Tt]he )?final answer)[ *`]*[:：]", re.MULTILINE)
_TEMPLATE = re.compile(r"\[([^\[\]]*)\]")
_BOXED, _TEXT = r"\boxed{", re.compile(r"\\(?:text|mathrm|mathbf){([^{}]*)}")


def check_answer_form(name: str) -> None:
    """
    Raises:
        InputError: no such form.
    """
    if name not in ANSWER_FORMS:
        raise InputError(f"agent.answer_form={name}: no such form; valid: {', '.join(ANSWER_FORMS)}")


def _tagged(words: str) -> str | None:
    answers = _TAG.findall(words)
    return _bare(answers[-1].strip()) if answers else _boxed(words)


def _final(words: str) -> str | None:
    """The first text after the last FINAL ANSWER:, on its line or below. Emphasis is removed, and so are the brackets
    around it that GAIA's prompt suggests."""
    for part in reversed(_FINAL.split(words)[1:]):
        lines = (line.strip("*` \t\r") for line in part.splitlines())
        if answer := next(filter(None, lines), ""):
            whole = _TEMPLATE.fullmatch(answer)
            return whole[1].strip("*` ") if whole else _bare(answer)
    return _boxed(words)


ANSWER_FORMS = {"tag": _tagged, "final": _final}


def _boxed(words: str) -> str | None:
    r"""What the last \boxed{…} holds."""
    begin = words.rfind(_BOXED)
    box = _box(words[begin:]) if begin >= 0 else None
    return box and box[0]


def _bare(answer: str) -> str:
    r"""An answer that is one \boxed{…}, maybe within $…$, without it."""
    inner = answer.strip("$ .")
    box = _box(inner) if inner.startswith(_BOXED) else None
    return box[0] if box and not box[1] else answer


def _box(text: str) -> tuple[str, str] | None:
    r"""What the \boxed{…} at the beginning holds, with the braces in it, and what follows it; None: it has no end."""
    depth = 1
    for at in range(len(_BOXED), len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            inner = text[len(_BOXED) : at].strip()
            mere = _TEXT.fullmatch(inner)
            return mere[1].strip() if mere else inner, text[at + 1 :]
    return None
