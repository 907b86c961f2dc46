"""Addresses and keys of endpoints; which hosts are near, so that no proxy of the site leads to them."""

import ipaddress
import os
from contextlib import suppress

import httpx

from aworld.config import Endpoint
from aworld.errors import InputError

BUSY = (408, 409, 425, 429)


def is_near(host: str) -> bool:
    """Whether a host is this one, or in the site's own network by its name or number."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_private
    return "." not in host or host.endswith(".localhost")


def host(endpoint: Endpoint) -> str:
    """The host of its address.

    Raises:
        InputError: it has no address, or one that is none.
    """
    if not endpoint.base_url:
        raise InputError(f"{endpoint.model} has no base_url; set it beside its model, as http://localhost:8000/v1")
    with suppress(httpx.InvalidURL):
        url = httpx.URL(endpoint.base_url)
        if url.scheme in ("http", "https") and url.host:
            return url.host
    raise InputError(f"{endpoint.model}: base_url={endpoint.base_url} is no address such as http://localhost:8000/v1")


def key_header(endpoint: Endpoint) -> dict[str, str]:
    """The header that carries its key; none where it needs none.

    Raises:
        InputError: the variable that should hold the key is not set, or holds what cannot be one.
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
    """Whether an endpoint would refuse the same again; 3xx: the address is another."""
    return not reply.is_success and not reply.is_server_error and reply.status_code not in BUSY
