"""The turns that the benchmark reads off an episode, and how its bare client sends them."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from engine import OPENAI, Measured, Turn, prepared, send, turns_of

from aworld.errors import InputError
from aworld.trajectories.episode import Context, Episode

pytestmark = pytest.mark.unit


def test_a_turn_is_the_context_before_it_and_the_number_of_its_tokens() -> None:
    mask = [0, 0, 1, 1, 0, 1, 0, 0, 1, 0]
    contexts = [Context("agent"), Context("guard", 7)]
    episode = Episode(
        *(1, "t", 0, 1, "question", list(range(10)), mask, [0.0] * 10, [], None, 0.0, "answered", {}, 0, 0),
        contexts=contexts,
    )
    assert turns_of(episode) == [Turn([0, 1], 2), Turn([0, 1, 2, 3, 4], 1), Turn([7], 1)]


def test_so_many_episodes_are_sent_at_once_and_their_turns_in_order(tmp_path: Path) -> None:
    asked: list[list[int]] = []
    under_way = Counter[str]()

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        asked.append(body["prompt"])
        under_way["now"] += 1
        under_way["most"] = max(under_way["most"], under_way["now"])
        await asyncio.sleep(0.01)
        under_way["now"] -= 1
        return web.json_response({"choices": [{"token_ids": [0] * body["max_tokens"]}]})

    async def story() -> None:
        app = web.Application()
        app.router.add_post("/v1/completions", complete)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(tmp_path / "http")).start()
        await send(episodes, tmp_path / "http", OPENAI, 3)
        await runner.cleanup()

    episodes = [[Turn([number, turn], turn + 1) for turn in range(3)] for number in range(8)]
    asyncio.run(story())
    assert sorted(asked) == [[number, turn] for number in range(8) for turn in range(3)]
    for number in range(8):
        assert [turn for episode, turn in asked if episode == number] == [0, 1, 2]
    assert under_way["most"] == 3


def test_cpu_seconds_are_divided_by_the_tokens_of_the_same_measurement() -> None:
    few, many = (Measured(tokens, 10.0, Counter(engine=4.0)) for tokens in (1000, 4000))
    assert (few.rate, many.rate) == (100, 400)
    assert (few.cpu_per_1000("engine"), many.cpu_per_1000("engine")) == (4, 1)


def test_a_wrong_setting_is_refused_before_the_cold_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"environment\.slot"), prepared(tmp_path, ["environment.slot=4"]):
        pass
    assert not list(tmp_path.iterdir())
