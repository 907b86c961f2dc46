"""A model that decides whether an answer means the same as the gold one, behind any OpenAI-compatible endpoint."""

import json
import re
import time
import unicodedata

import httpx

from aworld import config as schema
from aworld.errors import InfrastructureError, InputError
from aworld.hosts import host, is_near, key_header, refuses
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
TRIES = 5
PAUSE = 1.0  # seconds after the first try, and twice as long after each further one
UNREADABLE = (httpx.HTTPError, ValueError, LookupError, TypeError, RecursionError)


class Judge:
    """Asks `config.model` at `config.base_url`; the key is in the environment variable `config.key_variable`.

    Raises:
        InputError: the address or the key is missing or is none.
    """

    def __init__(self, config: schema.Endpoint):
        self.config, self._url = config, f"{config.base_url.rstrip('/')}/chat/completions"
        far = not is_near(host(config))
        self._client = httpx.Client(headers=key_header(config), timeout=config.seconds, trust_env=far)

    def agrees(self, question: str, answer: str, truth: str) -> bool:
        """Whether the model says that the answer is right.

        Raises:
            Undecided: of this answer it gives no verdict in the form asked for, but of others it may.
            InputError: it refuses whatever it is asked, as with a wrong key, or where it has no such model.
            InfrastructureError: it is away, or too busy.
        """
        prompt = PROMPT.format(question=question, answer=answer, truth=truth)
        reason, answered = "", False
        for number in range(TRIES):
            if number:
                time.sleep(PAUSE * 2 ** (number - 1))
            try:
                text = self._ask(prompt)
            except UNREADABLE as error:
                reason = str(error) or type(error).__name__
                if isinstance(error, httpx.HTTPStatusError) and refuses(error.response):
                    break
                continue
            if (said := verdict(text)) is not None:
                return said
            answered, reason = True, "its reply does not end with one"  # no word of it: it knows the correct answer
        if not answered:
            self._greet(reason)
        raise Undecided(f"the judge at {self.config.base_url} gave no verdict: {reason}")

    def _ask(self, words: str) -> str:
        messages = [{"role": "user", "content": words}]
        body = {"model": self.config.model, "messages": messages, "temperature": 0} | self.config.extra
        content = json.dumps(body, ensure_ascii=False).encode(errors="replace")  # half a surrogate pair is no JSON
        reply = self._client.post(self._url, content=content, headers={"Content-Type": "application/json"})
        reply.raise_for_status()
        return str(reply.json()["choices"][0]["message"]["content"] or "")

    def _greet(self, reason: str) -> None:
        """See whether it would answer anything."""
        try:
            self._ask(GREETING)
            return
        except httpx.HTTPStatusError as error:
            if refuses(error.response):
                raise InputError(
                    f"the judge at {self.config.base_url} refuses whatever it is asked, status "
                    f"{error.response.status_code}: {' '.join(error.response.text.split())[:200]}; mend tasks.judge"
                ) from None
        except UNREADABLE:
            pass
        raise InfrastructureError(f"the judge at {self.config.base_url} is away: {reason}")


def verdict(reply: str) -> bool | None:
    """What the last line of a reply says, full-width writing included; None where it says neither: a guess would be a
    wrong score."""
    lines = [line.strip().strip("*_` ") for line in unicodedata.normalize("NFKC", reply).strip().splitlines()]
    match = VERDICT.fullmatch(lines[-1]) if lines else None
    return match[1].lower() == "yes" if match else None
