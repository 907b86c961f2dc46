"""Slots: warm, apart from each other, and replaced when they misbehaved."""

import asyncio
import os
import stat
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from aworld import config as schema
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox, SubprocessSandbox
from aworld.errors import InfrastructureError, InputError
from aworld.processes import BEHIND

pytestmark = pytest.mark.tools
LEAVE = (
    "import os\nos.makedirs('d/e'); open('d/e/f', 'w').write('x'); os.chmod('d', 0); open('note', 'w').write('mine')"
)
LIST = "import os\nprint(sorted(os.listdir('.')))"
SERVER = "os.getppid()"  # a call runs in a copy of it
DIE = f"import os, signal\nos.kill({SERVER}, signal.SIGKILL)"
NICENESS = "import os\nprint(os.nice(0))"
SERVER_PID = f"import os\nprint({SERVER})"


def make(sandbox: Sandbox, root: Path, corpus: Path | None = None, **values: object) -> EnvironmentPool:
    servers = ["python", "files", "search"] if corpus else ["python", "files"]
    config = schema.Environment(**{"servers": servers, "slots": 1, "reuse": "reset", **values})  # type: ignore[arg-type]
    return EnvironmentPool(config, sandbox, corpus, root)


@pytest.mark.parametrize("reuse", ["reset", "never"])
def test_nothing_passes_from_one_episode_to_the_next(sandbox: Sandbox, reuse: str, tmp_path: Path) -> None:
    root, attachment = tmp_path / "root", tmp_path / "data.csv"
    root.mkdir()
    attachment.write_text("a,b\n")

    async def story() -> None:
        async with make(sandbox, root, reuse=reuse) as pool:
            async with pool.episode((attachment,)) as environment:
                assert (await environment.call("python", {"code": LIST})).text == "['data.csv']"
                assert not (await environment.call("python", {"code": LEAVE})).is_error
                folder = next(root.glob("*/slot-*"))
                assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            async with pool.episode() as environment:
                assert (await environment.call("python", {"code": LIST})).text == "[]"
                assert (await environment.call("read_file", {"path": "data.csv"})).is_error
        assert attachment.read_text() == "a,b\n"
        assert list(root.iterdir()) == []

    asyncio.run(story())


def test_attachments_leave_an_episode_the_room_that_it_has_without_them(tmp_path: Path) -> None:
    root, attachment = tmp_path / "root", tmp_path / "data.csv"
    root.mkdir()
    attachment.write_bytes(b"x" * (9 << 20))
    look = "import os, time\ntime.sleep(1.5)\nprint(os.path.getsize('data.csv'))"
    fill = "for name in 'abc': open(name, 'wb').write(b'x' * (3 << 20))\nimport time\ntime.sleep(30)"

    async def story() -> None:
        async with make(SubprocessSandbox(), root, scratch_mb=4, call_seconds=60.0) as pool:
            async with pool.episode((attachment,)) as environment:
                assert (await environment.call("python", {"code": look})).text == str(9 << 20)
                assert "its files used more than 13 MB" in (await environment.call("python", {"code": fill})).text
            async with pool.episode() as environment:
                assert "its files used more than 4 MB" in (await environment.call("python", {"code": fill})).text

    asyncio.run(story())


def test_reset_keeps_the_server_and_never_does_not(tmp_path: Path) -> None:
    async def servers(reuse: str) -> set[str]:
        seen = set()
        async with make(SubprocessSandbox(), tmp_path, reuse=reuse) as pool:
            for _ in range(2):
                async with pool.episode() as environment:
                    seen.add((await environment.call("python", {"code": SERVER_PID})).text)
        return seen

    assert len(asyncio.run(servers("reset"))) == 1
    assert len(asyncio.run(servers("never"))) == 2


def test_a_slot_starts_with_its_episode_and_is_taken_with_the_first_call(tmp_path: Path) -> None:
    async def story() -> None:
        async with make(SubprocessSandbox(), tmp_path, reuse="never", slots=2) as pool:
            async with pool.episode() as first:  # nobody knew the tools before
                assert first.taken is not None
                async with pool.episode() as second:
                    assert second.tools == first.tools and second.taken is None
                    calls = [environment.call("python", {"code": SERVER_PID}) for environment in (second, second)]
                    one, again = await asyncio.gather(*calls)
                    assert one.text == again.text != (await first.call("python", {"code": SERVER_PID})).text
                    assert second.waited > 0 and pool._live == {first.taken, second.taken}
            async with pool.episode() as third, asyncio.timeout(60):
                while not (unused := pool._live - {first.taken, second.taken}):
                    await asyncio.sleep(0.02)
                assert third.taken is None  # an episode without a call leaves its slot for another
            async with pool.episode() as fourth:
                await fourth.call("python", {"code": "1"})
                assert {fourth.taken} == unused

    asyncio.run(story())


def test_a_slot_that_is_emptied_is_waited_for_rather_than_another_started(tmp_path: Path) -> None:
    async def story() -> set[str]:
        seen = set()
        async with make(SubprocessSandbox(), tmp_path, slots=2) as pool:

            async def episode() -> None:
                async with pool.episode() as environment:
                    seen.add((await environment.call("python", {"code": SERVER_PID})).text)

            await asyncio.gather(*(episode() for _ in range(12)))
        return seen

    assert len(asyncio.run(story())) <= 2  # one alone may be fast enough for all


def test_a_crash_costs_one_call_and_its_slot(sandbox: Sandbox, tmp_path: Path) -> None:
    async def story() -> None:
        async with make(sandbox, tmp_path) as pool:
            async with pool.episode() as environment:
                await environment.call("python", {"code": "open('kept', 'w').write('still here')"})
                first = (await environment.call("python", {"code": SERVER_PID})).text
                crash = await environment.call("python", {"code": DIE})
                assert crash.is_error
                assert "it ended" in crash.text
                again = await environment.call("read_file", {"path": "kept"})
                assert again.text == "still here"  # a new server, the same scratch
            async with pool.episode() as environment:
                assert (await environment.call("python", {"code": LIST})).text == "[]"
                if sandbox.name == "subprocess":  # elsewhere ids are counted per sandbox
                    assert (await environment.call("python", {"code": SERVER_PID})).text != first

    others = set(psutil.Process().children(recursive=True))  # a pool that several tests share
    asyncio.run(story())
    assert set(psutil.Process().children(recursive=True)) <= others


def test_an_episode_that_is_cancelled_frees_its_slot(tmp_path: Path) -> None:
    async def story() -> None:
        async with make(SubprocessSandbox(), tmp_path) as pool:

            async def episode() -> None:
                async with pool.episode() as environment:
                    await environment.call("python", {"code": "import time; time.sleep(5)"})

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(episode(), 1.5)
            async with pool.episode() as environment:
                assert (await environment.call("python", {"code": "1"})).text == "1"

    asyncio.run(story())


def test_tools_run_behind_the_engine_on_the_same_cores(sandbox: Sandbox, tmp_path: Path) -> None:
    async def story() -> None:
        async with make(sandbox, tmp_path) as pool, pool.episode() as environment:
            assert (await environment.call("python", {"code": NICENESS})).text == str(os.nice(0) + BEHIND)

    asyncio.run(story())


def test_episodes_wait_for_a_free_slot(tmp_path: Path, corpus: Path) -> None:
    running = most = 0

    async def story() -> None:
        async with make(SubprocessSandbox(), tmp_path, corpus, slots=2) as pool:

            async def episode(number: int) -> str:
                nonlocal running, most
                async with pool.episode() as environment:
                    running += 1
                    most = max(most, running)
                    while most < 2:  # the second slot may take long to start
                        await asyncio.sleep(0.01)
                    await environment.call("python", {"code": f"open('n', 'w').write('{number}')"})
                    text = (await environment.call("read_file", {"path": "n"})).text
                    running -= 1
                    return text

            assert await asyncio.gather(*(episode(n) for n in range(12))) == [str(n) for n in range(12)]

    asyncio.run(story())
    assert most == 2


def test_a_slot_that_cannot_start_says_why_and_the_pool_goes_on(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("not json\n")

    async def story() -> None:
        async with make(SubprocessSandbox(), tmp_path, bad) as pool:
            with pytest.raises(InfrastructureError, match="JSONDecodeError"):
                async with pool.episode():
                    pass
            bad.write_text('{"title": "t", "text": "mended"}\n')
            async with pool.episode() as environment:
                assert (await environment.call("search", {"query": "mended"})).text == "t: mended"

    asyncio.run(story())


def test_an_episode_whose_first_call_finds_no_slot_ends_with_the_reason(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"title": "t", "text": "there"}\n')

    async def story() -> None:
        async with make(SubprocessSandbox(), tmp_path, corpus, reuse="never") as pool:
            async with pool.episode() as environment:
                await environment.call("search", {"query": "there"})
            corpus.write_text("not json\n")
            with pytest.raises(InfrastructureError, match="JSONDecodeError"):
                async with pool.episode() as environment:
                    for _ in range(2):
                        with suppress(InfrastructureError):  # as an agent team does
                            await environment.call("search", {"query": "there"})
            corpus.write_text('{"title": "t", "text": "mended"}\n')
            async with pool.episode() as environment:
                assert (await environment.call("search", {"query": "mended"})).text == "t: mended"

    asyncio.run(story())


def test_inputs_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave search out"):
        EnvironmentPool(schema.Environment(), SubprocessSandbox(), None, tmp_path)
    with pytest.raises(InputError, match=r"set environment\.reuse=never"):
        make(SubprocessSandbox(), tmp_path, servers=["python_session"])

    async def story() -> None:
        (tmp_path / "a").mkdir()
        for name in ("x.csv", "a/x.csv"):
            (tmp_path / name).write_text("1")
        async with make(SubprocessSandbox(), tmp_path) as pool:
            with pytest.raises(InputError, match="two attachments of one name"):
                async with pool.episode((tmp_path / "x.csv", tmp_path / "a" / "x.csv")):
                    pass
            with pytest.raises(InputError, match=r"gone.csv is not there"):
                async with pool.episode((tmp_path / "gone.csv",)):
                    pass
            async with pool.episode((tmp_path / "x.csv",)) as environment:
                assert (await environment.call("read_file", {"path": "x.csv"})).text == "1"

    asyncio.run(story())


def test_closing_is_quick_and_complete_even_while_starting(tmp_path: Path) -> None:
    async def story() -> float:
        async with make(SubprocessSandbox(), tmp_path, slots=6):
            await asyncio.sleep(0.3)
            begin = time.perf_counter()
        return time.perf_counter() - begin

    others = set(psutil.Process().children(recursive=True))  # a pool that several tests share
    assert asyncio.run(story()) < 20
    assert set(psutil.Process().children(recursive=True)) <= others
    assert list(tmp_path.iterdir()) == []


def test_a_long_result_is_cut_and_whole_in_a_file_that_is_no_link(sandbox: Sandbox, tmp_path: Path) -> None:
    root, foreign = tmp_path / "root", tmp_path / "foreign"
    root.mkdir()
    plant = f"import os\nos.symlink({str(foreign)!r}, 'result-1.txt')\nprint('y' * 5000)"

    async def story() -> None:
        async with make(sandbox, root, result_chars=100) as pool, pool.episode() as environment:
            seen = await environment.call("python", {"code": plant})
            note = "[cut: 100 of 5000 characters; the whole of this result is in result-2.txt]"
            assert seen.text == "y" * 100 + "\n" + note
            whole = await environment.call("python", {"code": "print(len(open('result-2.txt').read()))"})
            assert whole.text == "5000"
        assert not foreign.exists()

    asyncio.run(story())
