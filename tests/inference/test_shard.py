import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from aworld.agents.chat import ChatFormat
from aworld.agents.protocols import Completion, Observation, Sampling
from aworld.config import Images, Site
from aworld.containers import container_binds
from aworld.errors import InfrastructureError
from aworld.inference import shard as shard_module
from aworld.inference.client import VllmPolicy
from aworld.inference.command import own_gpus
from aworld.inference.shard import SOCKET, VllmShard
from aworld.nodelocal import own_folder
from aworld.phase import Phase
from aworld.rollout.players import PolicyPlayer
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir
from aworld.tasks.task import Task

pytestmark = pytest.mark.engine

IN_IMAGE = pytest.param(True, id="in an image", marks=pytest.mark.cluster)
QUESTIONS = ("What is 2+2?", "What is the price of tea in prices.csv?", "Find the height of Arden.")


@pytest.fixture(scope="module")
def prompts(checkpoint):
    chat = ChatFormat(checkpoint())
    return [chat.prompt("Use tools, then answer.", question, []) for question in QUESTIONS]


@cache
def transformer(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def reference(folder: Path, prompt: list[int], completion: Completion, sampling: Sampling) -> torch.Tensor:
    """Log-probabilities of the completion as transformers computes them, under the distribution sampled from."""
    with torch.no_grad():
        logits = transformer(folder)(torch.tensor([prompt + completion.token_ids])).logits[0, len(prompt) - 1 : -1]
    logits = logits / sampling.temperature
    if sampling.top_k > 0:
        logits[logits < logits.topk(sampling.top_k).values[:, -1:]] = -torch.inf
    return logits.log_softmax(-1)[torch.arange(len(completion.token_ids)), completion.token_ids]


async def check(policy: VllmPolicy, folder: Path, prompts: list[list[int]], sampling: Sampling) -> list[Completion]:
    completions = await asyncio.gather(*(policy.generate(prompt, sampling) for prompt in prompts))
    for prompt, completion in zip(prompts, completions, strict=True):
        expected = reference(folder, prompt, completion, sampling)
        assert (torch.tensor(completion.logprobs) - expected).abs().max() < 1e-3
    return completions


async def check_that_only_we_reach(server: VllmShard) -> None:
    """Its routes are on a socket in a folder of this user's alone, and on no port, whatever else listens there."""
    assert (await server.client.get("/version")).status_code == 200
    leader = psutil.Process(server.process.pid)
    processes = [leader, *leader.children(recursive=True)]
    (listens,) = {c.laddr for p in processes for c in p.net_connections("unix") if c.laddr.endswith(f"/{SOCKET}")}
    assert Path(listens).parent.stat().st_mode & 0o777 == 0o700
    ports = {c.laddr.port for p in processes for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as stranger:
        for port in ports:
            with pytest.raises(httpx.HTTPError):
                await stranger.get(f"http://127.0.0.1:{port}/version")


@pytest.fixture(scope="module")
def serve(config, checkpoint, tmp_path_factory) -> Iterator[Callable[..., None]]:
    """`serve(scenario, *kind)`: run `scenario(server, policy)` with a shard of that checkpoint, which starts once."""
    servers: list[VllmShard] = []
    with asyncio.Runner() as runner:

        @cache
        def started(*kind: bool) -> VllmShard:
            folder = tmp_path_factory.mktemp("shard")
            archives = folder / "caches"
            server = VllmShard(checkpoint(0, *kind), 0, config.model, folder / "vllm.log", archives=archives)
            runner.run(server.start())
            servers.append(server)
            return server

        def run(scenario: Callable[[VllmShard, VllmPolicy], Awaitable[None]], *kind: bool) -> None:
            server = started(*kind)
            runner.run(scenario(server, VllmPolicy(server, ChatFormat(server.policy).ends)))

        yield run
        for server in servers:
            runner.run(server.stop())


@pytest.mark.parametrize(("tied", "yarn"), [pytest.param(False, False, marks=pytest.mark.deep), (True, True)])
def test_samples_from_the_policy_and_from_the_next_one_after_a_load_in_place(tied, yarn, serve, checkpoint, prompts):
    """With YaRN far beyond the positions of the training."""
    first, second = checkpoint(0, tied, yarn), checkpoint(1, tied, yarn)

    async def scenario(server: VllmShard, policy: VllmPolicy) -> None:
        for sampling in (
            Sampling(max_tokens=24, seed=3),
            Sampling(max_tokens=24, seed=3, temperature=0.6),
            Sampling(max_tokens=24, seed=3, top_k=7),
        ):
            before = await check(policy, first, prompts, sampling)
            assert {c.policy_version for c in before} == {0}
        again = await check(policy, first, prompts, sampling)
        assert [c.token_ids for c in again] == [c.token_ids for c in before]
        process = server.process
        environ = psutil.Process(process.pid).environ()
        (archive,) = server.archives.glob("vllm-*.tar")  # what it left for further nodes, from its own folder
        assert Path(environ["VLLM_CACHE_ROOT"]).parent.name == archive.stem
        mapped = [each.path for each in psutil.Process(process.pid).memory_maps()]
        assert not any("/scipy/" in path for path in mapped)  # left out of a start on a CPU
        await check_that_only_we_reach(server)
        in_flight = asyncio.create_task(policy.generate(prompts[0], Sampling(max_tokens=400, seed=5)))
        await asyncio.sleep(0.1)
        await server.load(second, 1)
        late = await in_flight
        assert late.token_ids and len(late.token_ids) == len(late.logprobs)
        # The same prompts: a cached prefix of the old weights would show.
        after = await check(policy, second, prompts, Sampling(max_tokens=24, seed=3))
        assert {c.policy_version for c in after} == {1}
        assert server.process is process and process.poll() is None

    serve(scenario, tied, yarn)


@pytest.mark.deep
def test_the_turn_ends_with_the_end_token_or_with_the_limit(serve, prompts):
    async def scenario(_: VllmShard, policy: VllmPolicy) -> None:
        seeds = [policy.generate(prompts[0], Sampling(max_tokens=200, seed=seed)) for seed in range(24)]
        for completion in await asyncio.gather(*seeds):
            ended = completion.token_ids[-1] in policy.ends
            assert completion.finish_reason == ("stop" if ended else "length")
            assert not set(policy.ends) & set(completion.token_ids[:-1])
            assert ended or len(completion.token_ids) == 200
        with pytest.raises(InfrastructureError, match=r"see .*vllm\.log"):
            await policy.generate(prompts[0] * 1000, Sampling(max_tokens=4))

    serve(scenario, False, False)


@pytest.mark.deep
@pytest.mark.cluster
def test_vllm_in_an_image_samples_from_a_policy_of_links_and_from_the_next_one(
    config, checkpoint, prompts, environment_image, tmp_path
):
    run, sampling = RunDir(tmp_path / "run"), Sampling(max_tokens=24, seed=3)
    shutil.copytree(checkpoint(1), run.policy(1))
    for folder in (run.base, run.policy(0)):  # as a run is laid out
        folder.mkdir(parents=True)
        for file in checkpoint(0).iterdir():
            (folder / file.name).symlink_to(file)
    site = Site("test", images=Images(vllm=str(environment_image)), bind_python=True)

    async def scenario() -> None:
        log = tmp_path / "vllm.log"
        async with VllmShard(run.policy(0), 0, config.model, log, site, container_binds(run)) as server:
            (vllm, *_) = psutil.Process(server.process.pid).children()
            assert vllm.environ()["APPTAINER_CONTAINER"] == str(environment_image)
            policy = VllmPolicy(server, ChatFormat(run.policy(0)).ends)
            await check(policy, checkpoint(0), prompts, sampling)
            await server.load(run.policy(1), 1)
            await check(policy, checkpoint(1), prompts, sampling)

    asyncio.run(scenario())


@pytest.mark.deep
@pytest.mark.parametrize("in_image", [pytest.param(False, id="here"), IN_IMAGE])
def test_no_process_of_vllm_outlives_a_worker_that_was_killed(config, checkpoint, tmp_path, in_image, request):
    image = request.getfixturevalue("environment_image") if in_image else ""
    program = f"""
        import asyncio
        from pathlib import Path
        from aworld import config
        from aworld.inference.shard import VllmShard
        from aworld.config import Images, Site

        async def main():
            model = config.load(["recipe=demo"]).model
            site = Site("test", images=Images(vllm={str(image)!r}), bind_python=True)
            async with VllmShard(Path({str(checkpoint())!r}), 0, model, Path({str(tmp_path / "vllm.log")!r}), site):
                print("ready", flush=True)
                await asyncio.sleep(600)

        asyncio.run(main())
    """
    temporary = tempfile.mkdtemp(dir="/tmp", prefix="a-long-path-".ljust(36, "-"))  # the longest that holds a socket
    environment = os.environ | {"TMPDIR": temporary}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert worker.stdout.readline() == "ready\n"
    started = psutil.Process(worker.pid).children(recursive=True)
    assert any("EngineCore" in process.name() or "VLLM" in process.name() for process in started)
    worker.kill()
    worker.wait()
    give_up = time.monotonic() + 120
    while alive := [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < give_up, alive
        time.sleep(0.1)
    (left,) = Path(temporary).glob("aworld-vllm-*")  # the next shard of this node removes it, with all that vLLM wrote
    assert len(list(left.iterdir())) > 1
    with own_folder(Path(temporary), "vllm") as own:
        assert list(Path(temporary).glob("aworld-vllm-*")) == [own]
    shutil.rmtree(temporary)


@pytest.mark.deep
def test_a_vllm_that_hangs_or_ends_is_started_again_and_the_episode_has_another_try(
    config, serve, tmp_path, monkeypatch
):
    """One that ends before it has played an episode is an infrastructure failure."""

    class Nothing:
        tools: ClassVar[list[dict[str, Any]]] = []
        independent = ()

        async def call(self, name: str, arguments: dict[str, Any]) -> Observation:
            raise AssertionError(name)

    monkeypatch.setattr(shard_module, "PROBE_SECONDS", 20.0)
    agent = replace(config.agent, episode_seconds=30.0, max_turns=1, turn_tokens=16)
    task = Task("t", "What is 6*7?", "42", 1)

    async def scenario(server: VllmShard, policy: VllmPolicy) -> None:
        workload = Workload(Phase.ROUND, "round 1", tmp_path, 1, [task], 3, 1.0, range(2))
        player = PolicyPlayer(replace(config, agent=agent), workload, server)

        async def statuses(count: int) -> list[str]:
            played = [player.play(task, attempt, attempt, Nothing()) for attempt in range(count)]
            return [episode.status for episode in await asyncio.gather(*played)]

        async def end(server: VllmShard) -> None:
            os.killpg(server.process.pid, signal.SIGKILL)
            await asyncio.to_thread(server.process.wait)

        hung = server.process
        os.killpg(hung.pid, signal.SIGSTOP)
        assert await statuses(3) == ["infra_error"] * 3  # which is tried again
        assert server.starts == 2 and hung.poll() is not None
        assert not {"timeout", "infra_error"} & set(await statuses(2))
        await end(server)
        assert await statuses(2) == ["infra_error"] * 2 and server.starts == 3
        await end(server)
        with pytest.raises(InfrastructureError, match="vLLM has ended, and has played no episode"):
            await statuses(1)

    serve(scenario, False, False)


def test_a_policy_that_cannot_be_served_is_one_clear_line(config, tmp_path):
    (tmp_path / "config.json").write_text("{}")

    async def scenario() -> None:
        async with shard_of_nothing():
            pass

    def shard_of_nothing() -> VllmShard:
        return VllmShard(tmp_path, 0, config.model, tmp_path / "vllm.log")

    with pytest.raises(InfrastructureError, match=r"vLLM ended while starting: .*vllm\.log"):
        asyncio.run(scenario())


@pytest.mark.parametrize(("local", "devices"), [("0", "0,1,2,3"), ("1", "4,5,6,7")])
def test_the_shards_of_a_node_share_its_gpus(local, devices):
    env = {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7", "SLURM_LOCALID": local}
    assert own_gpus(env, 4) == devices
    assert own_gpus({}, 4) == ""
