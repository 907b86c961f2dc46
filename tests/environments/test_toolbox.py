"""Whatever a server does, a call returns in time and in bounded memory, and the worker lives on."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from aworld import config as schema
from aworld.environments.sandbox import Contents, Sandbox
from aworld.environments.toolbox import McpToolbox
from aworld.errors import InfrastructureError

pytestmark = pytest.mark.tools
SERVER = Path(__file__).parent / "misbehaving" / "server.py"
WORKER = SERVER.with_name("worker.py")
QUIET = ("hang", "other_id", "garbage")  # these cost a call's whole limit
BROKEN = {
    "hang": "no answer within 1.5 s",
    "die": "it ended",
    "die_leaving_a_child": "it ended",
    "garbage": "no answer within 1.5 s",
    "flood_lines": "flooded its stdout",
    "flood_messages": "flooded its stdout",
    "flood_one_line": "a line over",
    "flood_stderr": "flooded its stderr",
    "other_id": "no answer within 1.5 s",
    "deaf": "does not read the replies",
}


def start(sandbox: Sandbox, how: str, scratch: Path, **limits: float) -> "asyncio.Future[McpToolbox]":
    config = schema.Environment(call_seconds=1.5 if how in QUIET else 20.0, **limits)  # type: ignore[arg-type]
    launch = sandbox.launch([sandbox.python, str(SERVER), how, str(scratch)], Contents(scratch, config, [SERVER]))
    return McpToolbox.start(launch, config)  # type: ignore[return-value]


def left_of(scratch: Path) -> list[psutil.Process]:
    """The processes of the server that `start` gave this scratch, wherever they went: all carry its name."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(scratch) in (p.info["cmdline"] or [])]


def gone(scratch: Path) -> bool:
    deadline = time.monotonic() + 20
    while left_of(scratch) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left_of(scratch) == []


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_server_costs_one_call(sandbox: Sandbox, how: str, tmp_path: Path) -> None:
    async def story() -> None:
        toolbox = await start(sandbox, how, tmp_path)
        memory = psutil.Process().memory_info().rss
        pauses = [0.0]

        async def tick() -> None:
            while True:
                last = time.perf_counter()
                await asyncio.sleep(0.01)
                pauses.append(time.perf_counter() - last)

        ticker = asyncio.create_task(tick())
        observation = await toolbox.call("work", {"n": 1})
        ticker.cancel()
        assert observation.is_error
        assert BROKEN[how] in observation.text
        assert BROKEN[how] in toolbox.broken
        assert observation.seconds < 20
        assert max(pauses) < 3  # the loop went on serving others
        assert psutil.Process().memory_info().rss - memory < 64 << 20
        again = await toolbox.call("work", {"n": 1})
        assert again.is_error and "the tools are gone" in again.text
        await asyncio.wait_for(toolbox.close(), 20)
        assert gone(tmp_path)

    asyncio.run(story())


@pytest.mark.parametrize("how, told", [("protocol_error", "no such thing"), ("wrong_shape", "work failed")])
def test_an_error_answer_costs_only_its_call(sandbox: Sandbox, how: str, told: str, tmp_path: Path) -> None:
    async def story() -> None:
        toolbox = await start(sandbox, how, tmp_path)
        for _ in range(2):
            observation = await toolbox.call("work", {"n": 1})
            assert observation.is_error
            assert told in observation.text
        assert toolbox.broken == ""
        await toolbox.close()

    asyncio.run(story())


ODD = {
    "asks": "{} -32601",
    "other_type_of_id": "by a string",
    "links": "\n" * 99_999,
    "deep": "[" * 150 + "]" * 150,
    "greets": "hello",
    "noise": "after the noise",
    "half_a_pair": "cut in the middle of ?",
    "no_utf8": "K\ufffdln",
    "resources": "what the file says\n[file:///b.pdf, application/pdf]",
    "structured": '{"answer": 42}',
    "structured_and_text": "42",
    "picture": "[image, image/png]",
    "link": "[report: file:///report.pdf]",
}


@pytest.mark.parametrize("how", ODD)
def test_what_a_server_says_in_its_own_way_arrives(sandbox: Sandbox, how: str, tmp_path: Path) -> None:
    async def story() -> None:
        toolbox = await start(sandbox, how, tmp_path)
        for _ in range(2):
            assert (await toolbox.call("work", {"n": 1})).text == ODD[how]
        assert toolbox.broken == ""
        await toolbox.close()

    asyncio.run(story())


def test_a_huge_result_is_cut_and_costs_nothing_else(sandbox: Sandbox, tmp_path: Path) -> None:
    async def story() -> None:
        toolbox = await start(sandbox, "huge", tmp_path)
        memory = psutil.Process().memory_info().rss
        for _ in range(2):
            observation = await toolbox.call("work", {"n": 1})
            text, note, picture = observation.text.rpartition("\n[image, image/png]")
            assert not observation.is_error and (note, picture) == ("\n[image, image/png]", "")
            assert text.startswith("x\nx\n") and text.endswith("more bytes]") and len(text) < 1_000_000
        assert psutil.Process().memory_info().rss - memory < 64 << 20
        assert toolbox.broken == ""
        await toolbox.close()

    asyncio.run(story())


def test_bad_calls_never_reach_the_server(sandbox: Sandbox, tmp_path: Path) -> None:
    async def story() -> None:
        toolbox = await start(sandbox, "long", tmp_path, result_chars=100)
        assert [tool["function"]["name"] for tool in toolbox.tools] == ["work"]
        assert toolbox.tools[0]["type"] == "function"
        assert toolbox.tools[0]["function"]["parameters"]["required"] == ["n"]
        for name, arguments, told in [
            ("play", {"n": 1}, "there are: work"),
            ("work", {}, "'n' is a required property"),
            ("work", {"n": "one"}, "is not of type 'integer'"),
            ("work", ["n"], "is not of type 'object'"),
            ("work", {"n": 1, "m": "\ud800"}, "not valid Unicode"),
        ]:
            observation = await toolbox.call(name, arguments)  # type: ignore[arg-type]
            assert observation.is_error
            assert told in observation.text
        await toolbox.close()

    asyncio.run(story())


def test_tools_may_come_on_several_pages(sandbox: Sandbox, tmp_path: Path) -> None:
    async def story() -> list[str]:
        toolbox = await start(sandbox, "pages", tmp_path)
        await toolbox.close()
        return [tool["function"]["name"] for tool in toolbox.tools]

    assert asyncio.run(story()) == ["other", "work"]


def test_a_server_that_does_not_start_says_why(sandbox: Sandbox, tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(InfrastructureError, match="the reason is written here"):
            await start(sandbox, "dies_at_start", tmp_path)
        with pytest.raises(InfrastructureError, match="no licence"):
            await start(sandbox, "greets_and_dies", tmp_path)
        with pytest.raises(InfrastructureError, match="it speaks version '1999-01-01'"):
            await start(sandbox, "other_version", tmp_path)
        begin = time.perf_counter()
        with pytest.raises(InfrastructureError, match="no answer within 1 s"):
            await start(sandbox, "mute", tmp_path, start_seconds=1.0)
        assert time.perf_counter() - begin < 20

    asyncio.run(story())


def test_a_call_that_is_given_up_ends_the_server(sandbox: Sandbox, tmp_path: Path) -> None:
    async def story() -> None:
        toolbox = await start(sandbox, "hang", tmp_path)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(toolbox.call("work", {"n": 1}), 0.2)
        assert "given up" in toolbox.broken
        await toolbox.close()
        assert not psutil.pid_exists(toolbox.pid)

    asyncio.run(story())


def test_close_leaves_no_descendant(sandbox: Sandbox, tmp_path: Path) -> None:
    async def story() -> None:
        toolbox = await start(sandbox, "fork_and_hang", tmp_path)
        call = asyncio.create_task(toolbox.call("work", {"n": 1}))
        while not (tmp_path / "forked").exists():
            await asyncio.sleep(0.01)
        assert left_of(tmp_path)
        await toolbox.close()
        assert (await call).is_error
        assert gone(tmp_path)

    asyncio.run(story())


def test_servers_die_with_a_killed_worker(sandbox: Sandbox, tmp_path: Path) -> None:
    argv = [sys.executable, str(WORKER), sandbox.name, getattr(sandbox, "image", ""), str(tmp_path)]
    worker = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert worker.returncode == -signal.SIGKILL
    assert len(worker.stdout.split()) >= 1  # they ran when the worker was killed
    assert gone(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_to_the_whole_job_does_not_end_a_server(sandbox: Sandbox, number: int, tmp_path: Path) -> None:
    """Slurm's word that a job has to end soon goes to every process; a worker's `Notice` has it blocked for them."""

    async def story() -> str:
        others = set(psutil.Process().children(recursive=True))
        config = schema.Environment(call_seconds=60.0)
        argv = [sandbox.python, "-m", "aworld.tools", "python"]
        toolbox = await McpToolbox.start(sandbox.launch(argv, Contents(tmp_path, config)), config)
        code = "import os, time\nopen('begun', 'w')\nwhile os.path.exists('begun'): time.sleep(0.02)\nprint('done')"
        under_way = asyncio.create_task(toolbox.call("python", {"code": code}))
        begun = tmp_path / "begun"
        while not begun.exists():
            assert not under_way.done(), under_way.result().text
            await asyncio.sleep(0.02)
        below = set(psutil.Process().children(recursive=True)) - others
        assert len(below) >= 3
        for process in below:
            process.send_signal(number)
        begun.unlink()
        text = (await under_way).text
        await toolbox.close()
        return text

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
    try:
        assert asyncio.run(story()) == "done"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
