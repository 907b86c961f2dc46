"""A model that decides whether an answer means the same as the gold one, behind any OpenAI-compatible endpoint."""

import os
import re
import time
import unicodedata
from contextlib import suppress

import httpx

from aworld import config as schema
from aworld.errors import InfrastructureError, InputError
from aworld.hosts import is_near
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
TRIES = 3
PAUSE = 1.0  # seconds after the first try, and twice as long after each further one
REFUSED = (401, 403, 404)  # a wrong key, model or address: it will say so to every answer


class Judge:
    """Asks `config.model` at `config.base_url`; the key is in the environment variable `config.key_variable`."""

    def __init__(self, config: schema.Endpoint):
        if not config.base_url:
            raise InputError("tasks.judge.base_url is not set; name the endpoint, such as http://localhost:8000/v1")
        key = os.environ.get(config.key_variable, "") if config.key_variable else ""
        if config.key_variable and not key:
            raise InputError(f"the variable {config.key_variable} is not set, which holds the judge's key")
        self.config, self._address = config, config.base_url.rstrip("/")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        far = not is_near(httpx.URL(self._address).host)
        self._client = httpx.Client(headers=headers, timeout=config.seconds, trust_env=far)

    def agrees(self, question: str, answer: str, truth: str) -> bool:
        """Whether the model says that the answer is right.

        Raises:
            Undecided: of this answer it gives no verdict in the form asked for, three times.
            InfrastructureError: it is away, or refuses to be asked anything.
        """
        prompt = PROMPT.format(question=question, answer=answer, truth=truth)
        body = {"model": self.config.model, "messages": [{"role": "user", "content": prompt}], "temperature": 0}
        reason = ""
        for number in range(TRIES):
            if number:
                time.sleep(PAUSE * 2 ** (number - 1))
            try:
                reply = self._client.post(f"{self._address}/chat/completions", json=body)
                if reply.status_code in REFUSED:
                    raise InfrastructureError(
                        f"the judge at {self.config.base_url} refuses: status {reply.status_code}; mend tasks.judge"
                    )
                reply.raise_for_status()
                text = reply.json()["choices"][0]["message"]["content"] or ""
            except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
                reason = str(error) or type(error).__name__
                continue
            if (said := verdict(text)) is not None:
                return said
            reason = f"its reply ends with {text[-80:]!r}"
        if not self._is_there():
            raise InfrastructureError(f"the judge at {self.config.base_url} is away: {reason}")
        raise Undecided(f"the judge at {self.config.base_url} gave no verdict: {reason}")

    def _is_there(self) -> bool:
        """Whether anything answers at its address."""
        with suppress(httpx.HTTPError):
            self._client.get(f"{self._address}/models")
            return True
        return False


def verdict(reply: str) -> bool | None:
    """What the last line of a reply says, full-width writing included; None where it says neither: a guess would be a
    wrong score."""
    lines = [line.strip().strip("*_` ") for line in unicodedata.normalize("NFKC", reply).strip().splitlines()]
    match = VERDICT.fullmatch(lines[-1]) if lines else None
    return match[1].lower() == "yes" if match else None
