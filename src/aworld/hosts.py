"""Which hosts are near: no proxy of the site leads to them."""

import ipaddress
from contextlib import suppress


def is_near(host: str) -> bool:
    """Whether a host is this one, or in the site's own network by its name or number."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_private
    return "." not in host or host.endswith(".localhost")
