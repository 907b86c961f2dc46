"""The agent: ask the policy, run the tools it calls, append, until it answers or a limit is reached."""

import asyncio
import hashlib
import time
from dataclasses import asdict, dataclass, field

from aworld import config as schema
from aworld.agents.chat import ChatFormat, ParsedTurn
from aworld.agents.protocols import Environment, Policy, Sampling
from aworld.errors import InfrastructureError
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode, Status, Turn


@dataclass
class Transcript:
    """An episode under way: tokens are only ever appended."""

    token_ids: list[int]
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"generate": 0.0, "tools": 0.0})
    policy_version: int = -1
    answer: str | None = None
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.mask = [0] * len(self.token_ids)
        self.logprobs = [0.0] * len(self.token_ids)

    def append(self, token_ids: list[int], logprobs: list[float] | None = None) -> None:
        """Sampled tokens come with their log-probabilities, all others without."""
        self.token_ids += token_ids
        self.mask += [int(logprobs is not None)] * len(token_ids)
        self.logprobs += logprobs if logprobs is not None else [0.0] * len(token_ids)

    @property
    def now(self) -> float:
        """Seconds since the episode began."""
        return time.monotonic() - self.began


def repeats(turns: list[Turn]) -> int:
    """How often the last call was made in a row, with the same arguments."""
    calls = [(turn.tool, turn.arguments) for turn in turns if turn.tool]
    return next((n for n, call in enumerate(reversed(calls)) if call != calls[-1]), len(calls))


def asked(task: Task) -> str:
    """The question, and the names of attachments that it does not mention."""
    unnamed = [file.name for file in task.files if file.name not in task.question]
    return f"{task.question}\n\nAttached: {', '.join(unnamed)}" if unnamed else task.question


def turn_seed(seed: int, turn: int) -> int:
    """The sampling seed of one turn (63 bits)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{turn}".encode()).digest()[:8]) >> 1


@dataclass(frozen=True)
class ToolAgent:
    """A policy that may call tools. `context` is the most tokens the policy can hold."""

    policy: Policy
    chat: ChatFormat
    config: schema.Agent
    context: int

    async def run(self, task: Task, environment: Environment, *, round: int, attempt: int, seed: int) -> Episode:
        """Play one episode. It always ends in an Episode, whose status says how; the reward is not decided here."""
        prompt = self.chat.prompt(self.config.system_prompt, asked(task), environment.tools)
        transcript = Transcript(prompt, turns=[Turn("prompt", self.chat.decode(prompt))])
        error = ""
        status: Status
        try:
            async with asyncio.timeout(self.config.episode_seconds):
                status = await self._play(transcript, environment, seed)
        except TimeoutError:
            status, error = "timeout", f"not finished within {self.config.episode_seconds:g} s"
        except InfrastructureError as failure:
            status, error = "infra_error", str(failure)
        sampling = {k: v for k, v in asdict(self._sampling(seed, 0, transcript)).items() if k != "seed"}
        return Episode(
            round=round,
            task_id=task.task_id,
            attempt=attempt,
            level=task.level,
            question=task.question,
            token_ids=transcript.token_ids,
            mask=transcript.mask,
            logprobs=transcript.logprobs,
            turns=transcript.turns,
            answer=transcript.answer,
            reward=0.0,
            status=status,
            seconds={**transcript.seconds, "total": transcript.now},
            policy_version=transcript.policy_version,
            seed=seed,
            sampling=sampling | {"max_tokens": self.config.turn_tokens},
            error=error,
        )

    async def _play(self, transcript: Transcript, environment: Environment, seed: int) -> Status:
        for turn in range(self.config.max_turns):
            sampling = self._sampling(seed, turn, transcript)
            if sampling.max_tokens < 1:
                return "max_tokens"
            ended, parsed = await self._speak(transcript, sampling)
            if not ended and not parsed.calls:
                return "max_tokens"
            if parsed.answer is not None and not parsed.calls:
                transcript.answer = parsed.answer
                return "answered"
            if not parsed.calls and parsed.error is None:
                return "no_answer"
            results = await self._act(transcript, environment, parsed)
            if repeats(transcript.turns) > self.config.max_repeats:
                return "repeated"
            transcript.append(self.chat.observation(results, ended))
        return "max_turns"

    def _sampling(self, seed: int, turn: int, transcript: Transcript) -> Sampling:
        c = self.config
        left = min(c.turn_tokens, c.max_tokens - sum(transcript.mask), self.context - len(transcript.token_ids))
        return Sampling(c.temperature, c.top_p, c.top_k, left, turn_seed(seed, turn))

    async def _speak(self, transcript: Transcript, sampling: Sampling) -> tuple[bool, ParsedTurn]:
        """Sample one turn; returns whether the policy ended it itself, and what it says."""
        began = transcript.now
        completion = await self.policy.generate(transcript.token_ids, sampling)
        seconds = transcript.now - began
        transcript.seconds["generate"] += seconds
        transcript.append(completion.token_ids, completion.logprobs)
        transcript.policy_version = completion.policy_version
        parsed = self.chat.parse(completion.token_ids)
        transcript.turns.append(Turn("assistant", parsed.text, seconds=seconds, began=began))
        return completion.finish_reason == "stop", parsed

    async def _act(self, transcript: Transcript, environment: Environment, parsed: ParsedTurn) -> list[str]:
        """Run the turn's calls in order; what is wrong with a call is told to the policy like any result."""
        results: list[str] = []
        for call in parsed.calls:
            began = transcript.now
            seen = await environment.call(call.name, call.arguments)
            transcript.seconds["tools"] += seen.seconds
            turn = Turn("tool", seen.text, call.name, call.arguments, seen.is_error, seen.seconds, began)
            transcript.turns.append(turn)
            results.append(seen.text)
        if parsed.error is not None:
            text = f"error: {parsed.error}"
            transcript.turns.append(Turn("tool", text, is_error=True, began=transcript.now))
            results.append(text)
        return results
