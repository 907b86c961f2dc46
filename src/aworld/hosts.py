"""Addresses and keys of endpoints, and which hosts are near: the site's proxy does not lead to those."""

import ipaddress
import os
from contextlib import suppress

import httpx

from aworld.config import Endpoint
from aworld.errors import InputError

BUSY = (408, 409, 425, 429)  # HTTP status codes after which the same request may succeed


def is_near(host: str) -> bool:
    """Whether a host is this machine, or by its name or number one of the site's own network."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_private
    return "." not in host or host.endswith(".localhost")


def host(endpoint: Endpoint) -> str:
    """The host name in an endpoint's address.

    Raises:
        InputError: the address is missing or invalid.
    """
    if not endpoint.base_url:
        raise InputError(f"{endpoint.model} has no base_url; set it beside its model, as http://localhost:8000/v1")
    with suppress(httpx.InvalidURL):
        url = httpx.URL(endpoint.base_url)
        if url.scheme in ("http", "https") and url.host:
            return url.host
    raise InputError(f"{endpoint.model}: base_url={endpoint.base_url} is no address such as http://localhost:8000/v1")


def key_header(endpoint: Endpoint) -> dict[str, str]:
    """The HTTP header with an endpoint's key; empty where it needs no key.

    Raises:
        InputError: the variable for the key is not set, or its value cannot be a key.
    """
    if not endpoint.key_variable:
        return {}
    key = os.environ.get(endpoint.key_variable, "").strip()
    if not key:
        raise InputError(f"the variable {endpoint.key_variable} is not set, which holds the endpoint's key")
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"the variable {endpoint.key_variable} holds what cannot be a key")
    return {"Authorization": f"Bearer {key}"}


def refuses(reply: httpx.Response) -> bool:
    """Whether an endpoint would refuse the same request again. A redirect (3xx) counts: the address is another."""
    return not reply.is_success and not reply.is_server_error and reply.status_code not in BUSY
