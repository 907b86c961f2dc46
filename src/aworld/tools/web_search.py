"""`web_search`: addresses on the web, by SearXNG (its JSON format has to be on) or Brave's search API.

AWORLD_SEARCH_URL is the address of a SearXNG, such as http://login1:8080; AWORLD_SEARCH_KEY is a key of Brave's, and
then the address may be left out.
"""

import json
import os
from typing import Any

from aworld.tools.common import internet
from aworld.tools.common.result import UNANSWERED, Result, error, text
from aworld.tools.common.server import ToolServer

BRAVE = "https://api.search.brave.com/res/v1/web/search"
MOST = 10
SNIPPET_CHARS = 300


async def web_search(query: str, count: int = 5) -> Result:
    url, key = os.environ.get("AWORLD_SEARCH_URL", ""), os.environ.get("AWORLD_SEARCH_KEY", "")
    if not (url or key):
        return error(f"{UNANSWERED}: no search engine is set up here: AWORLD_SEARCH_URL or AWORLD_SEARCH_KEY")
    try:
        hits = await (_brave(url or BRAVE, key, query) if key else _searxng(url, query))
    except internet.WebError as reason:  # a wrong key, for one, is nothing to keep
        return error(f"{UNANSWERED}: {reason}")
    except (ValueError, KeyError, TypeError, AttributeError) as reason:
        return error(f"{UNANSWERED}: its answer cannot be read: {type(reason).__name__}: {str(reason)[:200]}")
    lines = [
        f"{number}. {hit['title']}\n{hit['url']}\n{' '.join((hit['snippet'] or '').split())[:SNIPPET_CHARS]}"
        for number, hit in enumerate(hits[: min(max(count, 1), MOST)], 1)
    ]
    return text("\n".join(lines)) if lines else error("nothing found")


async def _searxng(url: str, query: str) -> list[dict[str, Any]]:
    page = await internet.get(f"{url.rstrip('/')}/search", {"q": query, "format": "json"}, own=True)
    found = json.loads(page.body)
    if not found["results"] and (silent := found.get("unresponsive_engines")):
        # what it asks has blocked it or is slow: of what there is on the web that says nothing
        raise internet.WebError(f"none of its engines did: {', '.join(': '.join(map(str, one)) for one in silent)}")
    return [{"title": hit["title"], "url": hit["url"], "snippet": hit.get("content")} for hit in found["results"]]


async def _brave(url: str, key: str, query: str) -> list[dict[str, Any]]:
    headers = {"X-Subscription-Token": key, "Accept": "application/json"}
    found = json.loads((await internet.get(url, {"q": query}, headers, own=True)).body)
    return [
        {"title": hit["title"], "url": hit["url"], "snippet": hit.get("description")}
        for hit in found.get("web", {}).get("results", [])
    ]


def add_to(server: ToolServer) -> None:
    server.add_tool(web_search, description="Search the web.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["web_search"])
