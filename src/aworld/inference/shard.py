"""A vLLM server of our own on this node: start it, know it, load new weights in place, end it."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

import httpx

from aworld import config as schema
from aworld.containers import GPU_DRIVER, container_command, staged_image
from aworld.errors import InfrastructureError
from aworld.nodelocal import own_folder
from aworld.processes import STARTER, die_with_parent
from aworld.site import Site

UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None)
PROBE_SECONDS = 60.0  # for one token: any that runs samples it much sooner, however many others it samples
SOCKET = "http"  # vLLM listens on it
PLACE_CHARS = 107 - len("/aworld-vllm-12345678") - 37


def on_cpu(image: str = "") -> bool:
    """Whether there is no GPU for vLLM to use, here or in an image."""
    if not GPU_DRIVER.exists():
        return True
    if image:
        return False
    import torch

    return not torch.cuda.is_available()


class VllmShard:
    """One `vllm` process group serving `policy` over HTTP, for `async with` or start/stop.

    It listens on a socket in a folder that only this user may enter, and on no port: vLLM's administrative routes take
    no key, and `/collective_rpc` loads any file. No web page and no other user can reach such a socket.

    Attributes:
        version: the version of the weights it serves.
        client: an HTTP client for it, once it is started.
        starts: how often it was started.
        name: the model name it serves under.
    """

    name = "policy"
    client: httpx.AsyncClient

    def __init__(
        self,
        policy: Path,
        version: int,
        model: schema.Model,
        log: Path,
        site: Site | None = None,
        binds: Sequence[Path] = (),
    ):
        """`binds`: folders of this policy and the later ones, for a vLLM in the site's image."""
        self.policy, self.version, self.model, self.log, self.binds = policy, version, model, log, binds
        self.site = site or Site(name="local")
        self.image = staged_image(self.site.images.vllm, self.site.scratch)
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._temporary = AsyncExitStack()
        self._reviving = asyncio.Lock()

    @property
    def context(self) -> int:
        """Most tokens of prompt and response."""
        return self.model.shard.max_model_len

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    async def start(self) -> None:
        """Start it and wait until it is healthy.

        Raises:
            InfrastructureError: it ended, or was not healthy within `startup_seconds`.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        give_up = time.monotonic() + self.model.shard.startup_seconds
        try:
            temporary = self._temporary.enter_context(own_folder(_place_of_sockets(), "vllm"))
            listens = temporary / SOCKET
            self.client = httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=str(listens), limits=UNLIMITED),
                base_url="http://vllm",
                timeout=httpx.Timeout(600.0, connect=10.0),
                trust_env=False,  # no proxy stands between us
            )
            await self._temporary.enter_async_context(self.client)
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    self._command(listens),
                    env=self._environment(temporary),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
            while not await self._healthy():
                if self.process.poll() is not None:
                    raise InfrastructureError(f"vLLM ended while starting: {self._last_words()}; see {self.log}")
                if time.monotonic() > give_up:
                    limit = self.model.shard.startup_seconds
                    raise InfrastructureError(f"vLLM was not healthy within {limit:.0f} s; see {self.log}")
                await asyncio.sleep(0.25)
        except BaseException:
            await self.stop()
            raise
        self.starts += 1

    async def ready(self) -> int:
        """Wait until it is not being started again; returns the number of its starts."""
        async with self._reviving:
            return self.starts

    async def revive(self, starts: int) -> bool:
        """Start it again, in place, where it hangs. Returns whether there was a start since their number was `starts`:
        what failed meanwhile did so for that.

        Raises:
            InfrastructureError: it has ended, or hangs again at once.
        """
        async with self._reviving:
            if self.starts == starts and not await self._samples():
                if not self.is_alive:
                    raise InfrastructureError(f"vLLM ended while it was needed; see {self.log}")
                print(f"warning: vLLM hangs, and is started again; see {self.log}", file=sys.stderr, flush=True)
                await self.stop()
                await self.start()
                if not await self._samples():
                    raise InfrastructureError(f"vLLM hung, was started again, and hangs; see {self.log}")
            return self.starts != starts

    async def _samples(self) -> bool:
        request = {"model": self.name, "prompt": [0], "max_tokens": 1}
        try:
            return (await self.client.post("/v1/completions", json=request, timeout=PROBE_SECONDS)).is_success
        except httpx.HTTPError:
            return False

    async def load(self, policy: Path, version: int) -> None:
        """Serve the weights of `policy` from now on, in place; requests in flight go on with them."""
        await self._post("/pause", params={"mode": "keep"})
        await self._post("/collective_rpc", json={"method": "load_policy", "args": [str(policy)]})
        await self._post("/reset_prefix_cache", params={"reset_running_requests": "true"})
        await self._post("/resume")
        self.policy, self.version = policy, version

    async def stop(self) -> None:
        """End the whole process group."""
        async with self._temporary:
            if self.process is not None:
                await self._end(self.process)
        self.process = None

    async def _end(self, process: subprocess.Popen[bytes]) -> None:
        for sig, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            try:
                os.killpg(process.pid, sig)
            except ProcessLookupError:
                break
            give_up = time.monotonic() + patience
            while process.poll() is None and time.monotonic() < give_up:
                await asyncio.sleep(0.05)

    async def __aenter__(self) -> "VllmShard":
        await self.start()
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def _post(self, path: str, **arguments: object) -> None:
        try:
            (await self.client.post(path, **arguments)).raise_for_status()  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            raise InfrastructureError(f"vLLM refused {path}: {error!r}; see {self.log}") from error

    async def _healthy(self) -> bool:
        try:
            return (await self.client.get("/health", timeout=2.0)).status_code == 200
        except httpx.HTTPError:
            return False

    def _command(self, listens: Path) -> list[str]:
        shard = self.model.shard
        words = {
            "--model": str(self.policy),
            "--served-model-name": self.name,
            "--uds": str(listens),
            "--dtype": self.model.dtype,
            "--max-model-len": str(shard.max_model_len),
            "--max-num-seqs": str(shard.max_num_seqs),
            "--tensor-parallel-size": str(shard.tensor_parallel_size),
            # The model's own generation_config must not change the distribution behind our back.
            "--generation-config": "vllm",
            "--logprobs-mode": "processed_logprobs",
            "--worker-extension-cls": "aworld.inference.reload.ReloadExtension",
        }
        flags = ["--enable-prefix-caching", "--disable-uvicorn-access-log", "--disable-log-stats"]
        if on_cpu(self.image):
            words["--kv-cache-memory-bytes"] = str(int(shard.kv_cache_gb * 2**30))
            flags.append("--enforce-eager")
            if shard.tensor_parallel_size == 1:  # engine and worker in one process: twice as fast on few cores
                words["--distributed-executor-backend"] = "uni"
        program = [sys.executable, "-m", "aworld.inference.serve", *(word for pair in words.items() for word in pair)]
        return container_command(self.site, self.image, [*program, *flags], [self.policy, *self.binds, listens.parent])

    def _environment(self, temporary: Path) -> dict[str, str]:
        """`temporary`: for its sockets and files, some of which vLLM leaves behind even where it ends in peace."""
        env = dict(os.environ, HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", VLLM_SERVER_DEV_MODE="1")
        env |= {STARTER: str(os.getpid()), "TMPDIR": str(temporary)}
        if own := own_gpus(env, self.model.shard.tensor_parallel_size):
            env["CUDA_VISIBLE_DEVICES"] = own
        if on_cpu(self.image):
            env |= {
                "OMP_NUM_THREADS": str(self.site.rollout.cpus_per_task),
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # shards share the node's cores
                "TORCHDYNAMO_DISABLE": "1",
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # without it the CPU platform replaces `uni` by `mp`
            }
        return env

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        telling = [line for line in lines if "Error" in line or "error" in line]
        return (telling or lines or ["it said nothing"])[-1].strip()[-300:]


def own_gpus(env: Mapping[str, str], count: int) -> str:
    """Which `count` of a node's GPUs are this task's, as CUDA_VISIBLE_DEVICES; "" where the variable is not set.

    Slurm shows every task of a node all the GPUs that the job has there.
    """
    visible = [device for device in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    first = int(env.get("SLURM_LOCALID", 0)) * count
    return ",".join(visible[first : first + count])


def _place_of_sockets() -> Path:
    """TMPDIR, or /tmp where the path of a socket of vLLM's in a folder there (a UUID) would exceed Linux's limit."""
    place = Path(tempfile.gettempdir()).resolve()
    return place if len(str(place)) <= PLACE_CHARS else Path("/tmp")
