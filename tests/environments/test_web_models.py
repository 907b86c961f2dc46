"""Tools that ask a model, in an episode: its files, the cache, and what never gets out."""

import asyncio
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_web import Reply
from model_server import Model, model_serving
from PIL import Image

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import SubprocessSandbox
from aworld.tools.common.result import UNANSWERED, UNREACHABLE

pytestmark = pytest.mark.tools
KEY = "sk-none-of-your-business"
LOOK = ("vision", {"path": "photo.png", "question": "What is it?"})


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    with model_serving(monkeypatch, KEY) as model:
        yield model


def photo(folder: Path, colour: str) -> Path:
    """An attachment photo.png of one colour."""
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(folder / "photo.png")
    return folder / "photo.png"


def play(
    root: Path, *calls: tuple[str, dict], files: tuple[Path, ...] = (), cache: Path | None = None, mode: str = "record"
) -> list[Observation]:
    config = schema.Environment(servers=["python"], web=["vision", "speech", "reasoning", "youtube"], slots=1)
    config.web_cache, config.web_mode = str(cache or ""), mode
    config.call_seconds = 30.0
    root.mkdir(exist_ok=True)

    async def story() -> list[Observation]:
        pool = EnvironmentPool(config, SubprocessSandbox(), None, root)
        async with pool, pool.episode(files) as environment:
            names = {tool["function"]["name"] for tool in environment.tools}
            assert names == {"python", "vision", "speech", "reasoning", "youtube"}
            return [await environment.call(name, arguments) for name, arguments in calls]

    return asyncio.run(story())


def said(seen: list[Observation]) -> list[str]:
    return [one.text for one in seen]


@pytest.mark.deep
def test_an_answer_is_kept_for_the_content_of_a_file(model: Model, tmp_path: Path) -> None:
    """The same name and question about another picture is another call; strict mode needs no endpoint at all."""
    cache, red, blue = tmp_path / "cache", photo(tmp_path / "r", "red"), photo(tmp_path / "b", "blue")
    model.says = "red"
    assert said(play(tmp_path / "1", LOOK, ("reasoning", {"question": "?"}), files=(red,), cache=cache)) == ["red"] * 2
    model.says = "blue"
    assert said(play(tmp_path / "2", LOOK, LOOK, files=(blue,), cache=cache)) == ["blue"] * 2
    assert len(model.asked) == 3
    model.first = [Reply(b"gone", status=500)] * 99
    change = ("python", {"code": "from PIL import Image\nImage.new('RGB', (8, 8), 'green').save('photo.png')"})
    calls = [LOOK, ("reasoning", {"question": "?"}), ("vision", {"path": "no.png"}), change, LOOK]
    strict = play(tmp_path / "3", *calls, files=(red,), cache=cache, mode="strict")
    assert said(strict[:2]) == ["red", "red"] and "No such file" in strict[2].text
    assert strict[4].is_error and "was not recorded" in strict[4].text
    assert said(play(tmp_path / "4", LOOK, files=(blue,), cache=cache, mode="strict")) == ["blue"]
    assert len(model.asked) == 3


def test_only_what_worked_is_kept_and_keys_never(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what failed at a proxy, where nothing listens."""
    for name in ("HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", f"http://me:{KEY}@127.0.0.1:9")
    cache, red = tmp_path / "cache", photo(tmp_path / "r", "red")
    model.first = [Reply(f"bad key {KEY}".encode(), status=401), Reply(b"{}")]
    model.says = f"the answer to {KEY}"
    think = ("reasoning", {"question": "?"})
    *seen, video = play(
        tmp_path / "1", think, LOOK, think, LOOK, ("youtube", {"url": "dQw4w9WgXcQ"}), files=(red,), cache=cache
    )
    assert video.text.startswith(UNREACHABLE) and KEY not in video.text
    assert [one.text.startswith(UNANSWERED) for one in seen] == [True, True, False, False]
    assert said(seen)[0].endswith("status 401: bad key [key]") and said(seen)[2:] == ["the answer to [key]"] * 2
    kept = b"".join(file.read_bytes() for file in cache.rglob("*") if file.is_file())
    assert len(kept.splitlines()) == 2 and KEY.encode() not in kept
    assert [json.loads(line)["text"] for line in kept.splitlines()] == ["the answer to [key]"] * 2


@pytest.mark.parametrize("cached", [True, False])
def test_links_that_the_sandbox_plants_lead_nowhere(cached: bool, model: Model, tmp_path: Path) -> None:
    mine = photo(tmp_path / "home", "red")
    code = (
        f"import os\nos.symlink({str(mine)!r}, 'photo.png')\nos.symlink({str(mine.parent)!r}, 'in')\nos.mkfifo('pipe')"
    )
    paths = ["photo.png", "in/photo.png", "pipe", str(mine), "../../home/photo.png"]
    calls = [(tool, {"path": path}) for tool in ("vision", "speech") for path in paths]
    seen = play(tmp_path / "1", ("python", {"code": code}), *calls, cache=tmp_path / "cache" if cached else None)
    assert not seen[0].is_error, seen[0].text
    assert all(one.is_error and "\n" not in one.text for one in seen[1:]) and not model.asked


def test_an_answer_about_a_file_that_changed_meanwhile_is_not_kept(model: Model, tmp_path: Path) -> None:
    """What was sent need not be what lay there before the call, so nothing is known of either."""
    cache, red = tmp_path / "cache", photo(tmp_path / "r", "red")
    other = io.BytesIO()
    Image.new("RGB", (8, 8), "blue").save(other, "PNG")

    def swap() -> None:
        (scratch,) = (tmp_path / "1").rglob("photo.png")
        scratch.write_bytes(other.getvalue())

    model.before = swap
    assert said(play(tmp_path / "1", LOOK, files=(red,), cache=cache)) == ["a cat"]
    assert not list(cache.glob("*.jsonl"))


@pytest.mark.deep
def test_a_silent_endpoint_does_not_cost_the_server(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool gives up before the episode's own limit would end all of the web's tools."""
    model.before = lambda: time.sleep(12)
    config = schema.Environment(servers=["python"], web=["reasoning"], slots=1, tool_seconds={"reasoning": 10.0})

    async def story() -> Observation:
        pool = EnvironmentPool(config, SubprocessSandbox(), None, tmp_path)
        async with pool, pool.episode() as environment:
            return await environment.call("reasoning", {"question": "?"})

    seen = asyncio.run(story())
    assert seen.text == f"{UNANSWERED}: nothing within 8 s; environment.tool_seconds.reasoning gives more"
