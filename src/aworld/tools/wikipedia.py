"""`wikipedia_search` and `wikipedia_page`: Wikipedia by its own API, also as it was on a date.

AWORLD_WIKIPEDIA_URL (https://en.wikipedia.org/w/api.php) is the API of any MediaWiki.
"""

import json
import os
import re
from html import unescape
from typing import Any

from aworld.tools.common import internet
from aworld.tools.common.result import Result, error, in_parts, text
from aworld.tools.common.server import ToolServer
from aworld.tools.readers.texts import page_text

ENGLISH = "https://en.wikipedia.org/w/api.php"
HITS = "8"


async def wikipedia_search(query: str) -> Result:
    try:
        found = (await _ask(list="search", srsearch=query, srlimit=HITS)).get("query", {}).get("search", [])
    except internet.WebError as reason:
        return internet.failed(reason)
    lines = [f"{hit['title']}: {unescape(re.sub('<[^>]*>', '', hit['snippet']))}" for hit in found]
    return text("\n".join(lines)) if lines else error("nothing found")


async def wikipedia_page(title: str, part: int = 1, date: str = "") -> Result:
    """`date` is YYYY-MM-DD: the page as it was at the end of that day."""
    if date and not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        return error(f"{date!r} is no date like 2023-01-31")
    try:
        content = await (_dated(title, date) if date else _newest(title))
    except internet.WebError as reason:
        return internet.failed(reason)
    return in_parts(content, part, title) if content else error(f"no page {title!r}; look with wikipedia_search")


async def _newest(title: str) -> str:
    found = await _ask(prop="extracts", explaintext="1", redirects="1", titles=title)
    return str(_page(found).get("extract", ""))


async def _dated(title: str, date: str) -> str:
    wanted = {"rvlimit": "1", "rvdir": "older", "rvstart": f"{date}T23:59:59Z", "rvprop": "ids|timestamp"}
    found = await _ask(prop="revisions", redirects="1", titles=title, **wanted)
    revisions = _page(found).get("revisions", [])
    if not revisions:
        return ""
    parsed = await _ask(action="parse", oldid=str(revisions[0]["revid"]), prop="text")
    return "\n".join([f"[as of {revisions[0]['timestamp']}]", *page_text(parsed["parse"]["text"])])


def _page(answer: dict[str, Any]) -> dict[str, Any]:
    """The page asked for; {} of an empty title, and of one that another wiki has, such as de:Berlin."""
    pages: list[dict[str, Any]] = answer.get("query", {}).get("pages", [])
    return pages[0] if pages else {}


async def _ask(action: str = "query", **parameters: str) -> dict[str, Any]:
    """The reply of MediaWiki's API.

    Raises:
        WebError: there is no answer, or it is an error.
    """
    url = os.environ.get("AWORLD_WIKIPEDIA_URL", ENGLISH)
    page = await internet.get(url, {"action": action, "format": "json", "formatversion": "2", **parameters}, own=True)
    try:
        answer: dict[str, Any] = json.loads(page.body)
    except ValueError:
        raise internet.WebError(f"{url} does not answer in JSON", passing=True) from None
    if "error" in answer:
        raise internet.WebError(f"{url}: {answer['error'].get('info', 'an error')}")
    return answer


def add_to(server: ToolServer) -> None:
    server.add_tool(wikipedia_search, description="Find pages of Wikipedia.")
    server.add_tool(
        wikipedia_page,
        description="Read a page of Wikipedia, part by part; date: as it was on YYYY-MM-DD.",
    )


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["wikipedia"])
