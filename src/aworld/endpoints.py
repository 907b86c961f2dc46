"""The client of an endpoint that a configuration names."""

import os

from aworld.config import Endpoint
from aworld.errors import InputError
from aworld.openai_client import Client, is_address, is_key


def client_of(endpoint: Endpoint) -> Client:
    """Its client, with the key that the environment variable `key_variable` holds.

    Raises:
        InputError: the address or the key is missing, or cannot be one.
    """
    check_address(endpoint)
    return Client(endpoint.base_url, _key(endpoint), reply_seconds=endpoint.seconds)


def check_address(endpoint: Endpoint) -> None:
    """Check the address of an endpoint.

    Raises:
        InputError: it has no address, or one that cannot be one.
    """
    if not endpoint.base_url:
        raise InputError(f"{endpoint.model} has no base_url; set it beside its model, as http://localhost:8000/v1")
    if not is_address(endpoint.base_url):
        raise InputError(
            f"{endpoint.model}: base_url={endpoint.base_url} is no address such as http://localhost:8000/v1"
        )


def _key(endpoint: Endpoint) -> str:
    if not endpoint.key_variable:
        return ""
    key = os.environ.get(endpoint.key_variable, "").strip()
    if not key:
        raise InputError(f"the variable {endpoint.key_variable} is not set, which holds the endpoint's key")
    if not is_key(key):
        raise InputError(f"the variable {endpoint.key_variable} holds what cannot be a key")
    return key
