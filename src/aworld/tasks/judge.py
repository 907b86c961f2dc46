"""A model that decides whether an answer means the same as the gold one, behind any OpenAI-compatible endpoint."""

import os
import re

import httpx

from aworld import config as schema
from aworld.errors import InfrastructureError, InputError

PROMPT = """\
Decide whether an answer to a question is right. It is right if it says the same as the correct answer; a different
wording, language or precision that changes nothing does not matter. Judge only by the correct answer, not by what you
know of the matter.

Question: {question}

Answer: {answer}

Correct answer: {truth}

End your reply with a line that is either "correct: yes" or "correct: no", and nothing else."""
VERDICT = re.compile(r"correct:\s*(yes|no)\.?", re.IGNORECASE)
TRIES = 3


class Judge:
    """Asks `config.model` at `config.base_url`; the key is in the environment variable `config.key_variable`."""

    def __init__(self, config: schema.Endpoint):
        if not config.base_url:
            raise InputError("tasks.judge.base_url is not set; name the endpoint, such as http://localhost:8000/v1")
        key = os.environ.get(config.key_variable, "") if config.key_variable else ""
        if config.key_variable and not key:
            raise InputError(f"the variable {config.key_variable} is not set, which holds the judge's key")
        self.config = config
        self._client = httpx.Client(headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=config.seconds)

    def agrees(self, question: str, answer: str, truth: str) -> bool:
        """Whether the model says that the answer is right.

        Raises:
            InfrastructureError: the endpoint does not answer, or not in the form asked for, three times.
        """
        prompt = PROMPT.format(question=question, answer=answer, truth=truth)
        body = {"model": self.config.model, "messages": [{"role": "user", "content": prompt}], "temperature": 0}
        reason = ""
        for _ in range(TRIES):
            try:
                reply = self._client.post(f"{self.config.base_url.rstrip('/')}/chat/completions", json=body)
                reply.raise_for_status()
                text = reply.json()["choices"][0]["message"]["content"] or ""
            except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
                reason = str(error) or type(error).__name__
                continue
            if (said := verdict(text)) is not None:
                return said
            reason = f"its reply ends with {text[-80:]!r}"
        raise InfrastructureError(f"the judge at {self.config.base_url} gave no verdict: {reason}")


def verdict(reply: str) -> bool | None:
    """What the last line of a reply says; None where it says neither, for a guess would be a wrong score."""
    lines = [line.strip().strip("*_` ") for line in reply.strip().splitlines()]
    match = VERDICT.fullmatch(lines[-1]) if lines else None
    return match[1].lower() == "yes" if match else None
