"""Play one episode with one or several agents, and return its record."""

import asyncio
from math import inf

from aworld import config as schema
from aworld.agents.endpoint import EndpointModel
from aworld.agents.loop import Agent, ask
from aworld.agents.protocols import ChatModel, Environment
from aworld.agents.record import Record
from aworld.agents.roles import check, members, order
from aworld.agents.work import Outcome, Question
from aworld.errors import InfrastructureError
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode, Status


def question_text(task: Task) -> str:
    """The question, and the names of attachments that it does not mention."""
    unnamed = [file.name for file in task.files if file.name not in task.question]
    return f"{task.question}\n\nAttached: {', '.join(unnamed)}" if unnamed else task.question


class Team:
    """The agents of `config`; those without an endpoint of their own speak through `policy`.

    Raises:
        InputError: what `roles.check` finds wrong, or an endpoint is not set up.
    """

    def __init__(self, config: schema.Agent, policy: ChatModel):
        check(config)
        self.config, self.policy = config, policy
        self.models: dict[str, ChatModel] = {
            name: EndpointModel(member.endpoint, config, is_policy=False) if member.endpoint.model else policy
            for name, member in members(config).items()
        }

    async def run(self, task: Task, environment: Environment, *, round: int, attempt: int, seed: int) -> Episode:
        """Play one episode. It always ends in an Episode, whose status says how; the reward is not decided here.

        Raises:
            InputError: an agent is to have a tool that the environment has not.
        """
        record = Record(self.config, seed)
        outcome, error = Outcome("no_answer", None, ""), ""
        status: Status
        limit = min(self.config.episode_seconds, task.seconds or inf)
        try:
            async with asyncio.timeout(limit):
                outcome = await self._play(task, environment, record)
                status = outcome.status
        except TimeoutError:
            status, error = "timeout", f"not finished within {limit:g} s"
        except InfrastructureError as failure:
            status, error = "infra_error", str(failure)
        return record.episode(task, outcome.answer, status, error, self.policy.sampling, round=round, attempt=attempt)

    async def _play(self, task: Task, environment: Environment, record: Record) -> Outcome:
        """The agents of the order one after another, each with the question and what those before it made of it.

        Raises:
            InfrastructureError: a model or the environment is gone.
        """
        agents: dict[str, Agent] = {}
        for name, model in self.models.items():
            agents[name] = Agent(name, self.config, model, environment, record, agents)
        text, names = question_text(task), order(self.config)
        outcome = Outcome("no_answer", None, "")
        for number, name in enumerate(names):
            if limit := record.limit_reached:  # what those before the last one said is not the answer
                return Outcome(limit, None, outcome.content)
            question = Question(text, (number,), is_last=name == names[-1])
            outcome = await ask(agents, name, question)
            text += f"\n\n{name}: {outcome.answer or outcome.content or 'no answer'}"
        return outcome
