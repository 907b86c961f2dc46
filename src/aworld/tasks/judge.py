"""A model that decides whether an answer means the same as the gold one, behind any OpenAI-compatible endpoint."""

import asyncio
import re
import unicodedata
from collections.abc import Callable
from typing import Any, TypeVar

from aworld import config as schema
from aworld.endpoints import client_of
from aworld.errors import InfrastructureError, InputError
from aworld.openai_client import ONCE, EndpointError, RefusedError, Retries, text_of
from aworld.tasks.task import Undecided

PROMPT = """\
Decide whether an answer to a question is right. It is right if it says the same as the correct answer; a different
wording, language or precision that changes nothing does not matter. Judge only by the correct answer, not by what you
know of the matter.

Question: {question}

Answer: {answer}

Correct answer: {truth}

End your reply with a line that is either "correct: yes" or "correct: no", and nothing else."""
VERDICT = re.compile(r"correct:\s*(yes|no)[.。]?", re.IGNORECASE)
GREETING = "Reply with the word ok."
RETRIES = Retries(5)

T = TypeVar("T")


class Judge:
    """Asks `config.model` at `config.base_url`; the key is in the environment variable `config.key_variable`.

    Raises:
        InputError: the address or the key is missing or is none.
    """

    def __init__(self, config: schema.Endpoint):
        self.config, self._client = config, client_of(config)

    def agrees(self, question: str, answer: str, truth: str) -> bool:
        """Whether the model says that the answer is right.

        Raises:
            Undecided: it gives no verdict on this answer in the form asked for; on others it may.
            InputError: it refuses every request, as with a wrong key or an unknown model.
            InfrastructureError: it is away, or too busy.
        """
        prompt = PROMPT.format(question=question, answer=answer, truth=truth)
        has_answered = False

        def read(completion: Any) -> bool:
            nonlocal has_answered
            is_right = verdict(text_of(completion))
            if is_right is None:
                has_answered = True
                raise ValueError("its reply does not end with one")  # no word of it: it knows the correct answer
            return is_right

        try:
            return self._ask(prompt, read, RETRIES)
        except EndpointError as error:
            reason = error.brief  # no word of the reply: it may repeat the correct answer
        if not has_answered:
            self._greet(reason)
        raise Undecided(f"the judge at {self.config.base_url} gave no verdict: {reason}")

    def _ask(self, text: str, read: Callable[[Any], T], retries: Retries) -> T:
        """What `read` makes of the reply. It runs an event loop: a scorer is called in a thread without one."""
        messages = [{"role": "user", "content": text}]
        body = {"model": self.config.model, "messages": messages, "temperature": 0} | self.config.extra
        return asyncio.run(self._client.chat(body, read, retries))

    def _greet(self, reason: str) -> None:
        """Ask for a word; returns if the judge replies.

        Raises:
            InputError: it refuses.
            InfrastructureError: it does not reply; `reason`: why it did not before.
        """
        try:
            self._ask(GREETING, text_of, ONCE)
        except RefusedError as error:
            raise InputError(
                f"the judge at {self.config.base_url} refuses whatever it is asked, {error}; mend tasks.judge"
            ) from None
        except EndpointError:
            raise InfrastructureError(f"the judge at {self.config.base_url} is away: {reason}") from None


def verdict(reply: str) -> bool | None:
    """The verdict in the last line of a reply, also in full-width writing; None where there is none."""
    lines = [line.strip().strip("*_` ") for line in unicodedata.normalize("NFKC", reply).strip().splitlines()]
    match = VERDICT.fullmatch(lines[-1]) if lines else None
    return match[1].lower() == "yes" if match else None
