"""Models that answer over HTTP."""

from dataclasses import dataclass
from typing import Any

from aworld.config.fields import number, setting


@dataclass
class Endpoint:
    """A model behind an OpenAI-compatible endpoint; without a model nothing is asked."""

    model: str = ""
    base_url: str = setting("", changes="any time")
    context: int = number(0, at_least=0)  # tokens it can hold; 0: not known
    # the environment variable that holds the key; empty: none is needed
    key_variable: str = setting("", changes="any time")
    seconds: float = number(120.0, above=0, changes="any time")  # limit of one reply
    extra: dict[str, Any] = setting(dict)  # more fields of each request, such as vLLM's return_token_ids
