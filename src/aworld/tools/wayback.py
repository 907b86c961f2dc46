"""`wayback`: a page as the Internet Archive's Wayback Machine kept it, nearest to a date.

AWORLD_WAYBACK_URL (https://archive.org/wayback/available) is its availability API.
"""

import json
import os
import re

from aworld.tools.common import internet
from aworld.tools.common.result import Result, error, in_parts
from aworld.tools.common.server import ToolServer
from aworld.tools.fetch import readable

AVAILABLE = "https://archive.org/wayback/available"


async def wayback(url: str, date: str, part: int = 1) -> Result:
    digits = date.replace("-", "")
    if not re.fullmatch(r"\d{4,14}", digits):
        return error(f"{date!r} is no date like 2023-01-31")
    try:
        answer = await internet.get(
            os.environ.get("AWORLD_WAYBACK_URL", AVAILABLE), {"url": url, "timestamp": digits}, own=True
        )
        closest = json.loads(answer.body).get("archived_snapshots", {}).get("closest")
        if not closest:
            return error(f"{url[:200]} was never archived")
        # id_: the page itself, without the archive's own banner and links
        kept = closest["url"].replace(f"/{closest['timestamp']}/", f"/{closest['timestamp']}id_/")
        content = readable(await internet.get(kept))
    except internet.WebError as reason:
        return internet.failed(reason)
    except Exception as reason:  # whatever a library makes of a damaged page
        return error(f"the archived {url[:200]} cannot be read: {type(reason).__name__}: {str(reason)[:200]}")
    stamp = closest["timestamp"]
    return in_parts(f"[archived {stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}]\n{content}", part, url)


def add_to(server: ToolServer) -> None:
    server.add_tool(wayback, description="Read a web page as it was near a date (YYYY-MM-DD).")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["wayback"])
