"""`arxiv_search`: papers by words, or one by its id, with abstract and address, from arXiv's API.

AWORLD_ARXIV_URL (https://export.arxiv.org/api/query) is the API's address. The paper itself: `fetch` of its PDF.
"""

import os
import re
from xml.etree import ElementTree

from aworld.tools.common import internet
from aworld.tools.common.result import Result, error, text
from aworld.tools.common.server import ToolServer

API = "https://export.arxiv.org/api/query"
ATOM = "{http://www.w3.org/2005/Atom}"
ID = re.compile(r"(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})(v\d+)?")
MOST = 10


async def arxiv_search(query: str, count: int = 5, newest: bool = False) -> Result:
    wanted = {"max_results": str(min(max(count, 1), MOST))}
    if ID.fullmatch(query.strip()):
        wanted["id_list"] = query.strip()
    else:
        wanted["search_query"] = query if re.search(r"\b(ti|au|abs|cat|all):", query) else f"all:{query}"
    if newest:
        wanted |= {"sortBy": "submittedDate", "sortOrder": "descending"}
    try:
        page = await internet.get(os.environ.get("AWORLD_ARXIV_URL", API), wanted, own=True)
        entries = ElementTree.fromstring(page.body).findall(f"{ATOM}entry")
    except internet.WebError as reason:
        return internet.failed(reason)
    except ElementTree.ParseError as reason:
        return error(f"arXiv's answer is no Atom: {reason}")
    return text("\n\n".join(map(_shown, entries))) if entries else error("nothing found")


def _shown(entry: ElementTree.Element) -> str:
    def words(name: str) -> str:
        return " ".join((entry.findtext(f"{ATOM}{name}") or "").split())

    authors = ", ".join(author.text or "" for author in entry.iterfind(f"{ATOM}author/{ATOM}name"))
    dates = f"submitted {words('published')[:10]}, last changed {words('updated')[:10]}"
    return f"{words('title')}\n{authors}\n{words('id')} ({dates})\n{words('summary')}"


def add_to(server: ToolServer) -> None:
    server.add_tool(
        arxiv_search,
        description="Find papers on arXiv by words, fields (au:, ti:, cat:) or id.",
    )


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["arxiv"])
