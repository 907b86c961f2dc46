"""The tools of single sites, against a server on this machine that answers as the sites' documentation says."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest
from local_web import Reply, serving

from aworld.tools.arxiv import arxiv_search
from aworld.tools.common.result import UNANSWERED, Result
from aworld.tools.pubchem import pubchem
from aworld.tools.wayback import wayback
from aworld.tools.web_search import web_search
from aworld.tools.wikipedia import wikipedia_page, wikipedia_search

pytestmark = pytest.mark.tools


def told(call: Any) -> str:
    result: Result = asyncio.run(call)
    assert not result.is_error, result.content
    return result.text


def refused(call: Any) -> str:
    result: Result = asyncio.run(call)
    assert result.is_error, result.content
    return result.text


@contextmanager
def site(answer: Callable[[str, dict[str, str], Mapping[str, str]], Any]) -> Iterator[str]:
    """Serve JSON; `answer` gets the path, the query and the headers, and None is a 404."""

    def reply(url: str, headers: Mapping[str, str]) -> Reply:
        parts = urlsplit(url)
        found = answer(unquote(parts.path), dict(parse_qsl(parts.query)), headers)
        if found is None:
            return Reply(b"", status=404)
        return found if isinstance(found, Reply) else Reply(json.dumps(found).encode(), "application/json")

    with serving(reply) as address:
        yield address


def test_web_search_by_searxng(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = [{"title": f"T{n}", "url": f"http://x/{n}", "content": "a  snippet\n" * 50} for n in range(30)]

    def answer(path: str, query: dict[str, str], headers: Mapping[str, str]) -> Any:
        if (path, query["format"]) != ("/search", "json"):
            return None
        return {"query": query["q"], "results": hits if query["q"] == "ada lovelace" else []}

    with site(answer) as address:
        monkeypatch.setenv("AWORLD_SEARCH_URL", address + "/")
        monkeypatch.delenv("AWORLD_SEARCH_KEY", raising=False)
        lines = told(web_search("ada lovelace", 2)).splitlines()
        assert lines[:2] == ["1. T0", "http://x/0"] and lines[3:5] == ["2. T1", "http://x/1"] and len(lines) == 6
        assert lines[2].startswith("a snippet a snippet") and len(lines[2]) == 300
        assert told(web_search("ada lovelace", 99)).count("http://x/") == 10
        assert refused(web_search("nothing")) == "nothing found"


def test_what_a_search_engine_did_not_say_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the engines behind SearXNG one may be suspended and another answer; a captive portal answers in HTML."""
    silent = [["google", "Suspended: too many requests"], ["bing", "timeout"]]
    hit = {"title": "T", "url": "http://x/", "content": "S"}
    answers = {
        "none": {"results": [], "unresponsive_engines": silent},
        "some": {"results": [hit], "unresponsive_engines": silent},
        "nothing": {"results": [], "unresponsive_engines": []},
        "portal": Reply(b"<p>Please log in</p>", "text/html"),
        "changed": {"hits": []},
    }
    monkeypatch.delenv("AWORLD_SEARCH_KEY", raising=False)
    with site(lambda path, query, headers: answers[query["q"]]) as address:
        monkeypatch.setenv("AWORLD_SEARCH_URL", address)
        reasons = "google: Suspended: too many requests, bing: timeout"
        assert refused(web_search("none")) == f"{UNANSWERED}: none of its engines did: {reasons}"
        assert told(web_search("some")) == "1. T\nhttp://x/\nS"
        assert refused(web_search("nothing")) == "nothing found"
        for query in ("portal", "changed"):
            assert refused(web_search(query)).startswith(f"{UNANSWERED}: its answer cannot be read: ")


def test_web_search_by_brave(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(path: str, query: dict[str, str], headers: Mapping[str, str]) -> Any:
        if headers.get("X-Subscription-Token") != "secret":
            return Reply(b"", status=401)
        return {"web": {"results": [{"title": query["q"], "url": "http://x", "description": "D"}]}}

    with site(answer) as address:
        monkeypatch.setenv("AWORLD_SEARCH_URL", address)
        monkeypatch.setenv("AWORLD_SEARCH_KEY", "secret")
        assert told(web_search("ada")) == "1. ada\nhttp://x\nD"
        monkeypatch.setenv("AWORLD_SEARCH_KEY", "wrong")
        assert "status 401" in refused(web_search("ada"))


def test_web_search_where_nothing_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWORLD_SEARCH_URL", "AWORLD_SEARCH_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert "AWORLD_SEARCH_URL or AWORLD_SEARCH_KEY" in refused(web_search("ada"))


def test_wikipedia_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(path: str, query: dict[str, str], headers: Mapping[str, str]) -> Any:
        assert (query["format"], query["formatversion"]) == ("json", "2")
        if query.get("list") == "search":
            found = [{"title": "Ada", "snippet": 'the <span class="searchmatch">first</span> &quot;program&quot;'}]
            return {"query": {"search": found if query["srsearch"] == "ada" else []}}
        if query["action"] == "parse":
            return {"parse": {"text": f"<p>Revision <b>{query['oldid']}</b>.</p>"}}
        if query.get("titles") == "de:Ada":
            return {"batchcomplete": True, "query": {"interwiki": [{"title": "de:Ada", "iw": "de"}]}}
        if not query.get("titles"):
            return {"batchcomplete": True}
        if query["titles"] != "Ada":
            return {"query": {"pages": [{"title": query["titles"], "missing": True}]}}
        if query["prop"] == "extracts":
            return {"query": {"pages": [{"title": "Ada", "extract": "A" * 8000 + "B"}]}}
        asked = (query["rvstart"], query["rvdir"], query["rvlimit"])
        if asked != ("2023-01-31T23:59:59Z", "older", "1"):
            return {"error": {"code": "x", "info": f"asked {asked}"}}
        return {"query": {"pages": [{"revisions": [{"revid": 77, "timestamp": "2022-12-24T08:00:00Z"}]}]}}

    with site(answer) as address:
        monkeypatch.setenv("AWORLD_WIKIPEDIA_URL", f"{address}/w/api.php")
        assert told(wikipedia_search("ada")) == 'Ada: the first "program"'
        assert refused(wikipedia_search("bob")) == "nothing found"
        assert told(wikipedia_page("Ada")).startswith("[part 1 of 2; go on with part=2]\nAAA")
        assert told(wikipedia_page("Ada", 2)) == "B"
        assert told(wikipedia_page("Ada", date="2023-01-31")) == "[as of 2022-12-24T08:00:00Z]\nRevision\n77\n."
        assert "asked ('2020-01-01" in refused(wikipedia_page("Ada", date="2020-01-01"))
        for title in ("Bob", "de:Ada", ""):
            for date in ("", "2023-01-31"):
                told_so = f"no page {title!r}; look with wikipedia_search"
                assert refused(wikipedia_page(title, date=date)) == told_so
        assert "no date" in refused(wikipedia_page("Ada", date="January"))


def test_wayback_reads_the_page_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    base = []

    def answer(path: str, query: dict[str, str], headers: Mapping[str, str]) -> Any:
        if path == "/available":
            if query["url"] != "example.org":
                return {"url": query["url"], "archived_snapshots": {}}
            closest = {"available": True, "timestamp": "20140802005925", "status": "200"}
            closest["url"] = f"{base[0]}/web/20140802005925/http://example.org/"
            return {"archived_snapshots": {"closest": closest}} if query["timestamp"] == "20140801" else None
        if path == "/web/20140802005925id_/http://example.org/":
            return Reply(b"plain words of 2014", "text/plain")
        return None

    with site(answer) as address:
        base.append(address)
        monkeypatch.setenv("AWORLD_WAYBACK_URL", f"{address}/available")
        monkeypatch.setenv("AWORLD_WEB_PRIVATE", "1")
        assert told(wayback("example.org", "2014-08-01")) == "[archived 2014-08-02]\nplain words of 2014"
        assert "never archived" in refused(wayback("example.com", "2014-08-01"))
        assert "no date" in refused(wayback("example.org", "yesterday"))


ATOM = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>q</title>
<entry><id>http://arxiv.org/abs/2311.12983v1</id><updated>2023-11-22T00:00:00Z</updated>
<published>2023-11-21T20:34:47Z</published><title>GAIA: a benchmark for
 General AI Assistants</title><summary>  We introduce GAIA.
</summary><author><name>G. Mialon</name></author><author><name>T. Scialom</name></author></entry></feed>"""


def test_arxiv(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    def answer(path: str, query: dict[str, str], headers: Mapping[str, str]) -> Any:
        asked.append(query)
        empty = ATOM[: ATOM.index("<entry>")] + "</feed>"
        return Reply((empty if "nothing" in str(query) else ATOM).encode(), "application/atom+xml")

    with site(answer) as address:
        monkeypatch.setenv("AWORLD_ARXIV_URL", f"{address}/api/query")
        assert told(arxiv_search("2311.12983")) == (
            "GAIA: a benchmark for General AI Assistants\nG. Mialon, T. Scialom\n"
            "http://arxiv.org/abs/2311.12983v1 (submitted 2023-11-21, last changed 2023-11-22)\nWe introduce GAIA."
        )
        told(arxiv_search("hep-th/9711200v3"))
        told(arxiv_search("assistants", 99, newest=True))
        told(arxiv_search("au:mialon AND cat:cs.CL"))
        assert refused(arxiv_search("nothing")) == "nothing found"
    assert [query.get("id_list") for query in asked[:2]] == ["2311.12983", "hep-th/9711200v3"]
    assert (asked[2]["search_query"], asked[2]["max_results"]) == ("all:assistants", "10")
    assert (asked[2]["sortBy"], asked[2]["sortOrder"]) == ("submittedDate", "descending")
    assert asked[3]["search_query"] == "au:mialon AND cat:cs.CL"


def test_pubchem(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(path: str, query: dict[str, str], headers: Mapping[str, str]) -> Any:
        words = path.split("/")
        if words[:4] != ["", "pug", "compound", "name"] or "/".join(words[4:-3]) != "aspirin 1/2":
            return None
        assert words[-3] == "property" and words[-1] == "JSON" and "MolecularFormula" in words[-2].split(",")
        return {"PropertyTable": {"Properties": [{"CID": 2244, "MolecularFormula": "C9H8O4"}] * 7}}

    with site(answer) as address:
        monkeypatch.setenv("AWORLD_PUBCHEM_URL", f"{address}/pug")
        seen = told(pubchem("aspirin 1/2"))
        assert seen.startswith("CID: 2244\nMolecularFormula: C9H8O4\n\nCID") and seen.endswith("… and 2 more")
        assert refused(pubchem("unobtainium")) == "no compound 'unobtainium'"
        assert "one of name, cid" in refused(pubchem("x", by="colour"))


@pytest.fixture(scope="module")
def internet() -> None:
    try:
        httpx.head("https://en.wikipedia.org", timeout=5)
    except httpx.HTTPError:
        pytest.skip("no internet here")


def test_the_sites_themselves(internet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWORLD_")]:
        monkeypatch.delenv(name)
    assert "Lovelace" in told(wikipedia_search("Ada Lovelace"))
    assert "Lovelace" in told(wikipedia_page("Ada Lovelace", date="2015-06-01"))
    assert "GAIA" in told(arxiv_search("2311.12983"))
    assert "C9H8O4" in told(pubchem("aspirin"))
    assert "Example Domain" in told(wayback("example.org", "2014-08-01"))
