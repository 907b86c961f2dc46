"""A user's agent program plays an episode: it runs in the sandbox, and the gateway records its turns."""

import asyncio
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.agents.answers import ANSWER_FORMS
from aworld.agents.gateway import Gateway
from aworld.agents.protocols import Environment
from aworld.agents.record import Record
from aworld.agents.session import PROGRAM, Session
from aworld.agents.team import question_text
from aworld.agents.tokens import TokenModel
from aworld.containers import staged_image
from aworld.environments.lent import LentSlot
from aworld.environments.program import Ended
from aworld.environments.sandbox import ApptainerSandbox
from aworld.environments.slot import Slot
from aworld.errors import InfrastructureError
from aworld.tasks.task import Task
from aworld.trajectories.episode import Context, Episode, Status


class ProgramTeam:
    """The program of `agent.program`, in the place of a Team.

    Args:
        scratch: folder of this node for a copy of its image; "": none is made.
    """

    def __init__(self, config: schema.Agent, model: TokenModel, gateway: Gateway, scratch: str = ""):
        self.config, self.model, self.gateway = config, model, gateway
        image = staged_image(config.program.image, scratch)
        self._sandbox = ApptainerSandbox(str(Path(image).absolute())) if image else None

    async def run(self, task: Task, environment: Environment, *, round: int, attempt: int, seed: int) -> Episode:
        """Play one episode, as `Team.run`.

        The program fails with the status `no_answer` and the reason. One that ends without a turn of the policy is an
        infrastructure failure: the policy cannot be the reason.

        Raises:
            InfrastructureError: there is no sandbox.
        """
        assert isinstance(environment, LentSlot)
        slot = await environment.slot()
        record = Record(self.config, seed)
        session = Session(self.config, self.model, slot, record)
        answer, error = None, ""
        status: Status
        limit = min(self.config.episode_seconds, task.seconds or inf)
        try:
            async with asyncio.timeout(limit):
                answer, status, error = await self._play(question_text(task), slot, session)
        except TimeoutError:
            status, error = "timeout", f"not finished within {limit:g} s"
        except InfrastructureError as failure:
            status, error = "infra_error", str(failure)
        finally:
            await slot.end_program()
            await session.close()
        if not record.opened:
            answer, status, error = None, "infra_error", error or "the program ended without a turn of the policy"
        episode = record.episode(task, answer, status, error, self.model.sampling, round=round, attempt=attempt)
        return episode if record.opened else replace(episode, turns=[], contexts=[Context(PROGRAM)])

    async def _play(self, question: str, slot: Slot, session: Session) -> tuple[str | None, Status, str]:
        """The answer, the status and the reason of a failure.

        Raises:
            InfrastructureError: the sandbox of the program does not start.
        """
        with self.gateway.serving(session) as key:
            sandbox = self._sandbox or slot.sandbox
            program = await slot.start_program(sandbox, self.config.program, question, key, self.gateway.socket)
            ending = asyncio.create_task(program.ended())
            try:
                futures: set[asyncio.Future[Any]] = {ending, session.ended}
                await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ending.cancel()
        if session.ended.done():
            return None, *session.ended.result()
        ended = ending.result()
        if ended.fault:
            return None, session.limit or "no_answer", f"the program failed: {ended.fault}"
        answer = self._answer(ended)
        return answer, session.limit or ("no_answer" if answer is None else "answered"), ""

    def _answer(self, ended: Ended) -> str | None:
        """The last line that it printed, without the form around the answer; None: it printed nothing."""
        return ANSWER_FORMS[self.config.answer_form](ended.last_line) or ended.last_line or None
