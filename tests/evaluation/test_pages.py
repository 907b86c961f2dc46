"""The pages of a run and of its evaluations: unpacked here by hand, and used in a real browser."""

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
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from test_trace import episode, with_a_colleague

from aworld import config as configuration
from aworld.cli import main
from aworld.evaluation import benchmark, trace
from aworld.evaluation.report import report
from aworld.publish import publish_json, publish_text
from aworld.rundir import RunDir
from aworld.tasks import make_source
from aworld.trajectories import arrays, file
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.tools
CHROMIUM = os.environ.get("AWORLD_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
NAME = "gaia-validation"
MADE_BY = {"commit": "0123456789abcdef"}
HOSTILE = "</script></details><!--<script>document.title = 'taken'</script>\u2028 & <b>é " + "x" * 300
LARGE = "a word of many. " * 100_000  # 1.6 MB


def played() -> list[Episode]:
    hostile = replace(episode(1), answer=HOSTILE, reward=0.0)
    hostile = replace(hostile, turns=[Turn("tool", HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, is_error=True, seconds=1.0)])
    late = replace(episode(0), task_id="late", level=2, answer=None, reward=0.0, status="max_tokens")
    return [replace(one, round=5) for one in (with_a_colleague(), hostile, late)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Two rounds, held-out tasks before and after, and a benchmark of two tasks with three attempts each, of which
    three were played; also one whose texts are large."""
    root = tmp_path_factory.mktemp("pages")
    config = configuration.load(["recipe=demo", f"runs={root}", "name=run", "tasks.train=4", "tasks.held_out=2"])
    run = RunDir.of(config)
    publish_text(run.config, configuration.to_yaml(config, MADE_BY))
    publish_json(run.root / "sandbox.json", {"name": "apptainer", "gaps": ["memory is <not> limited"]})
    for number in (1, 2):
        each = [replace(episode(n), round=number, task_id=f"train-{n}", question=HOSTILE) for n in range(2)]
        each[1] = replace(each[1], reward=0.0, answer=HOSTILE)
        write(run.round(number), each)
        file.write(run.trajectories(number), arrays.from_episodes(number, each))
    for version in (0, 2):
        tasks = list(make_source(config.tasks, run.tasks).tasks("held_out"))
        each = [replace(episode(0), round=version, task_id=task.task_id, reward=version / 2) for task in tasks]
        write(run.evaluation("held-out", version), each)
        publish_json(run.evaluation("held-out", version) / "timing.json", {})
    rows = [
        {"task_id": name, "Question": HOSTILE, "Level": level, "Final answer": "4", "file_name": ""}
        for name, level in (("task", 1), ("late", 2))
    ]
    (root / "GAIA" / "validation").mkdir(parents=True)
    (root / "GAIA" / "validation" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, each in (
        (NAME, played()),
        ("large", [replace(one, turns=[Turn("assistant", LARGE)]) for one in played()]),
    ):
        words = [f"tasks={NAME}", f"tasks.path={root / 'GAIA'}", "evaluation.attempts=3"]
        benchmark.begin(configuration.changed(config, words), run, name, 5, provenance=lambda: MADE_BY)
        write(run.evaluation(name, 5), each)
    report(config, run)
    for name in (NAME, "large"):
        assert main(["eval", "report", str(run.root), name, "5"]) == 0
    return run


def write(folder: Path, episodes: list[Episode]) -> None:
    with Journal(folder / "journals" / "worker-0.journal") as log:
        for one in episodes:
            log.append(one)


def page_of(run: RunDir, name: str) -> Path:
    return run.evaluation(name, 5) / "report.html"


def texts(script: str) -> dict[str, str]:
    """The texts that a page, or a file beside it, hands over."""
    calls = re.findall(r'text\(("[^<]*?"), "([^"<]*)"\)', script)
    return {json.loads(key): gzip.decompress(base64.b64decode(packed)).decode() for key, packed in calls}


def test_it_holds_every_turn_of_every_attempt_and_needs_nothing_beside_itself(run: RunDir) -> None:
    text = page_of(run, NAME).read_text()
    found = texts(text)
    assert list(found) == ["task/0", "task/1", "late/0"]
    for body, one in zip(found.values(), played(), strict=True):
        assert all(turn.text in html.unescape(body) for turn in one.turns)
        assert not re.search(r"<(script|/details|b|!--)\b", body)
    assert not re.search(r'\b(src|data-file)="', text) and not page_of(run, NAME).with_name("report").exists()


def test_links_lead_to_pages_that_are_there(run: RunDir) -> None:
    seen, left = set[Path](), [run.root / "report.html"]
    while left:
        page = left.pop()
        seen.add(page)
        for target in re.findall(r'href="([^"#]+)[^"]*"', page.read_text()):
            found = (page.parent / unquote(html.unescape(target))).resolve()
            assert found.is_file(), f"{page} links to {target}"
            left += [found] if found not in seen else []
    assert seen == {run.root / "report.html", *(run.evaluation("held-out", n) / "report.html" for n in (0, 2))}
    assert 'href="../../../report.html"' in page_of(run, NAME).read_text()


def test_the_head_says_what_ran_with_which_settings_and_in_which_sandbox(run: RunDir) -> None:
    for page in (page_of(run, NAME), run.root / "report.html"):
        head = page.read_text().split('<div class="big">')[0]
        for text in ("0123456789ab<", "sandbox: apptainer", "memory is &lt;not&gt; limited", "result_chars <b>200</b>"):
            assert text in head
        assert 'title="default: 2000"' in head  # of environment.result_chars
    found = json.loads(page_of(run, NAME).with_name("report.json").read_text())
    assert found["sandbox"] == {"name": "apptainer", "gaps": ["memory is <not> limited"]}


def test_large_texts_lie_beside_the_page_in_few_files(run: RunDir) -> None:
    page = page_of(run, "large")
    files = sorted(page.with_name("report").iterdir())
    assert [path.name for path in files] == ["000.js"] and page.stat().st_size < 100_000
    assert all(LARGE in text for text in texts(files[0].read_text()).values())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab in which no script may fail, and nothing is asked of a network."""
    tab, wrong = browser.new_page(), list[object]()
    tab.on("pageerror", lambda reason: wrong.append(reason))
    tab.on("request", lambda request: None if request.url.startswith("file:") else wrong.append(request.url))
    yield tab
    tab.close()
    assert wrong == []


def test_a_reader_filters_and_opens_an_attempt(run: RunDir, tab: Page) -> None:
    tab.goto(page_of(run, NAME).as_uri())
    shown = tab.locator("#shown")
    assert shown.inner_text() == "2 of 2 tasks, 6 attempts"
    for name, value, said in (
        ("outcome", "right", "1 of 2 tasks, 1 attempts"),
        ("outcome", "wrong", "2 of 2 tasks, 2 attempts"),
        ("outcome", "missing", "2 of 2 tasks, 3 attempts"),
        ("level", "2", "1 of 2 tasks, 3 attempts"),
        ("status", "max_tokens", "1 of 2 tasks, 1 attempts"),
        ("tool", "*", "2 of 2 tasks, 2 attempts"),
        ("tool", "read_file", "1 of 2 tasks, 1 attempts"),
    ):
        tab.locator(f"[name={name}]").select_option(value)
        assert shown.inner_text() == said, (name, value)
        tab.get_by_role("button", name="show all").click()
        tab.wait_for_function("document.getElementById('shown').textContent.startsWith('2 of 2 tasks, 6')")
    tab.locator("[name=words]").fill("MAX_TOK")
    assert shown.inner_text() == "1 of 2 tasks, 1 attempts"
    tab.locator("[name=words]").fill("late")  # an id
    assert shown.inner_text() == "1 of 2 tasks, 3 attempts"
    tab.locator(".chip:visible").first.press("Enter")
    tab.wait_for_selector("#one-text pre")
    assert unquote(tab.url).endswith("#late/0") and not tab.locator("#all").is_visible()
    assert not tab.locator("#one-after").is_visible()  # what is filtered out is no neighbour
    tab.go_back()
    assert tab.locator("#all").is_visible() and not tab.locator("#reader").is_visible()
    assert tab.evaluate("document.activeElement.id") == "late/0"


def test_a_link_opens_one_episode_as_it_was_written(run: RunDir, tab: Page) -> None:
    tab.goto(f"{page_of(run, NAME).as_uri()}#task/0")
    tab.wait_for_selector("#one-text pre")
    assert tab.locator("#one-text pre").all_inner_texts() == [turn.text for turn in with_a_colleague().turns]
    tab.get_by_text("the next one").click()
    tab.wait_for_function("document.querySelectorAll('#one-text pre').length === 1")
    assert tab.locator("#one-text pre").all_text_contents() == [HOSTILE]
    assert json.dumps({HOSTILE: HOSTILE}, ensure_ascii=False) == tab.locator("#one-text code").text_content()
    assert "taken" not in tab.title() and tab.locator("#one-title").inner_text() == "task, attempt 1"


def test_a_file_beside_the_page_is_loaded_when_it_is_asked_for(run: RunDir, tab: Page, tmp_path: Path) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page_of(run, "large").as_uri())
    assert len(asked) == 1
    tab.locator(".chip").first.click()
    tab.wait_for_selector("#one-text pre")
    assert asked[1:] == [(page_of(run, "large").with_name("report") / "000.js").as_uri()]
    assert tab.locator("#one-text pre").text_content() == LARGE
    shutil.copy(page_of(run, "large"), tmp_path)  # without the folder beside it
    tab.goto(f"{(tmp_path / 'report.html').as_uri()}#task/0")
    tab.get_by_text("report/000.js is not beside this page; copy it along").wait_for()


def test_a_runs_page_shows_episodes_side_by_side(run: RunDir, tab: Page) -> None:
    tab.goto((run.root / "report.html").as_uri())
    tab.get_by_text("held-out-2/held_out-00000/0").click()
    tab.get_by_text("held-out-0/held_out-00000/0").click()
    tab.wait_for_function("document.querySelectorAll('.trace').length === 2")
    left, right = (tab.locator(f"[id='held-out-{version}/held_out-00000/0']") for version in (0, 2))
    boxes = [one.bounding_box() for one in (left, right)]
    assert boxes[0] and boxes[1] and boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]
    for _ in ("shut", "open"):
        left.locator("summary").click()
    assert left.locator("pre").count() == len(episode(0).turns)  # unpacked once
    tab.goto(f"{(run.root / 'report.html').as_uri()}#2/train-1/1")
    tab.locator("[id='2/train-1/1'] pre").first.wait_for()
    assert "taken" not in tab.title()


def test_a_span_lies_below_the_one_that_it_is_part_of(run: RunDir, tab: Page) -> None:
    """Nothing is painted over: what a colleague does is in the rows below the call that asked it."""
    tab.goto(f"{page_of(run, NAME).as_uri()}#task/0")
    tab.wait_for_selector(".trace")
    found = trace.spans(with_a_colleague())
    bars = tab.locator(".trace i")
    boxes = bars.evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().toJSON())")
    assert len(boxes) == len(found)
    rows = sorted({box["top"] for box in boxes})
    scale = boxes[0]["width"] / found[0].seconds
    for span, box in zip(found, boxes, strict=True):
        assert rows.index(box["top"]) == span.depth
        assert box["left"] == pytest.approx(boxes[0]["left"] + scale * span.began, abs=1)
        assert box["width"] == pytest.approx(max(1, scale * span.seconds), abs=1)
        assert box["bottom"] <= min([top for top in rows if top > box["top"]], default=box["bottom"])


CONTRAST = """() => {  // WCAG 2.2, of each element's own text with the first background below it
  const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => rgb(color).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const painted = (e) => getComputedStyle(e).backgroundColor;
  const below = (e) => rgb(painted(e))[3] !== 0 ? painted(e) : below(e.parentElement);
  return Math.min(...[...document.body.querySelectorAll("*:not(svg *, script, noscript, style, option)")]
    .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((e) => [light(getComputedStyle(e).color), light(below(e))].sort((a, b) => b - a))
    .map(([high, low]) => (high + 0.05) / (low + 0.05)));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_laptop_and_a_telephone_and_can_be_read(run: RunDir, tab: Page, scheme: str) -> None:
    tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for page in (run.root / "report.html", page_of(run, NAME), f"{page_of(run, NAME).as_uri()}#task/1"):
        tab.goto(page.as_uri() if isinstance(page, Path) else page)
        tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        tab.wait_for_function("!document.querySelector('[aria-busy], [data-key]:empty')")
        for width, height in ((1280, 800), (390, 844)):
            tab.set_viewport_size({"width": width, "height": height})
            assert tab.evaluate("document.documentElement.scrollWidth") == width, page
        assert tab.evaluate(CONTRAST) >= 4.5, page
