"""The page of a benchmark, unpacked here by hand, and opened in a real browser."""

import base64
import gzip
import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright
from test_trace import episode, with_a_colleague

from aworld import config as configuration
from aworld.cli import main
from aworld.evaluation import benchmark, trace
from aworld.publish import publish_json
from aworld.rundir import RunDir
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.tools
CHROMIUM = os.environ.get("AWORLD_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
NAME = "gaia-validation"
HOSTILE = "</script></details><script>document.title = 'taken'</script>\u2028 & <b>é"


def played() -> list[Episode]:
    hostile = replace(episode(1), answer=HOSTILE, turns=[Turn("assistant", HOSTILE, seconds=1.0)], reward=0.0)
    return [replace(with_a_colleague(), round=5), replace(hostile, round=5)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one task with three attempts, of which two were played, in a run whose sandbox is recorded."""
    root = tmp_path_factory.mktemp("pages")
    (root / "GAIA" / "validation").mkdir(parents=True)
    row = {"task_id": "task", "Question": HOSTILE, "Level": 1, "Final answer": "4", "file_name": ""}
    (root / "GAIA" / "validation" / "metadata.jsonl").write_text(json.dumps(row))
    run = RunDir(root / "run")
    words = [f"tasks={NAME}", f"tasks.path={root / 'GAIA'}", "evaluation.attempts=3"]
    benchmark.begin(configuration.changed(configuration.load(["recipe=demo"]), words), run, NAME, 5)
    publish_json(run.root / "sandbox.json", {"name": "apptainer", "gaps": ["memory is <not> limited"]})
    with Journal(run.evaluation(NAME, 5) / "journals" / "worker-0.journal") as log:
        for one in played():
            log.append(one)
    assert main(["eval", "report", str(run.root), NAME, "5"]) == 0
    return run.evaluation(NAME, 5) / "report.html"


def test_it_holds_every_turn_of_every_attempt_and_needs_nothing_beside_itself(page: Path) -> None:
    text = page.read_text()
    packed = re.findall(r'<script type="text/plain">([^<]*)</script>', text)
    assert len(packed) == 2
    for block, one in zip(packed, played(), strict=True):
        body = gzip.decompress(base64.b64decode(block)).decode()
        assert all(turn.text in html.unescape(body) for turn in one.turns)
        assert not re.search(r"<(script|/details|b)\b", body)
    assert "1 of 3 right, 1 not played" in text
    assert not re.search(r'\b(src|href)="(?!#)', text)


def test_it_names_the_sandbox_and_its_gaps(page: Path) -> None:
    assert "sandbox: apptainer" in page.read_text() and "memory is &lt;not&gt; limited" in page.read_text()
    found = json.loads(page.with_name("report.json").read_text())
    assert found["sandbox"] == {"name": "apptainer", "gaps": ["memory is <not> limited"]}


@pytest.fixture(scope="module")
def opened(page: Path) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0)
        tab = browser.new_page()
        tab.goto(page.as_uri())
        tab.get_by_text("1 of 3 right").click()
        for attempt in (0, 1):
            tab.get_by_text(f"attempt {attempt} →").click()
        tab.wait_for_function("document.querySelectorAll('.trace').length === 2")
        yield tab
        browser.close()


def test_a_link_opens_its_episode_and_a_filter_hides_tasks(page: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0)
        tab = browser.new_page()
        tab.goto(f"{page.as_uri()}#task/1")
        tab.wait_for_function("document.querySelectorAll('.trace').length === 1")
        assert tab.locator("details.packed[open]").get_attribute("id") == "task/1"
        for chosen, shown in (("wrong", "1 of 1"), ("right", "1 of 1"), ("missing", "1 of 1"), ("", "1 of 1")):
            tab.locator("#outcome").select_option(chosen)  # one attempt is right, one wrong, one not played
            assert tab.locator("#shown").inner_text() == f"{shown} tasks"
        tab.locator("#level").select_option("1")
        assert tab.locator("details.asked").is_visible()
        tab.evaluate("document.querySelector('details.asked').dataset.outcome = 'right'")
        tab.locator("#outcome").select_option("wrong")
        assert not tab.locator("details.asked").is_visible()
        assert tab.locator("#shown").inner_text() == "0 of 1 tasks"
        browser.close()


def test_a_reader_opens_an_attempt(opened: Page) -> None:
    first, second = opened.locator("details.packed").all()
    assert first.locator("pre").all_inner_texts() == [turn.text for turn in with_a_colleague().turns]
    assert second.locator("pre").all_text_contents() == [HOSTILE]
    assert opened.title() != "taken"
    for _ in ("shut", "open"):
        first.locator("summary").click()
    assert first.locator("pre").count() == len(with_a_colleague().turns)  # unpacked once


def test_a_span_lies_below_the_one_that_it_is_part_of(opened: Page) -> None:
    """Nothing is painted over: what a colleague does is in the rows below the call that asked it."""
    found = trace.spans(with_a_colleague())
    bars = opened.locator("details.packed").first.locator(".trace i")
    boxes = bars.evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().toJSON())")
    assert len(boxes) == len(found)
    rows = sorted({box["top"] for box in boxes})
    scale = boxes[0]["width"] / found[0].seconds
    for span, box in zip(found, boxes, strict=True):
        assert rows.index(box["top"]) == span.depth
        assert box["left"] == pytest.approx(boxes[0]["left"] + scale * span.began, abs=1)
        assert box["width"] == pytest.approx(max(1, scale * span.seconds), abs=1)
        assert box["bottom"] <= min([top for top in rows if top > box["top"]], default=box["bottom"])
