"""The tasks of the experience benchmark by the original AWorld: an agent for each task, with an MCP server of its own.

    python experience_aworld.py ADDRESS TASKS.jsonl SLOTS PYTHON

PYTHON has the tool servers of AWorld on Slurm, so that the tool is the same.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("DISABLE_TRACE", "true")

from aworld.agents.llm_agent import Agent
from aworld.config.conf import AgentConfig
from aworld.core.task import Task
from aworld.runner import Runners


async def play(question: str, address: str, python: str, slots: asyncio.Semaphore) -> str:
    server = {"command": python, "args": ["-P", "-m", "aworld.tools", "python"], "env": dict(os.environ)}
    async with slots:
        agent = Agent(
            name="solver",
            conf=AgentConfig(llm_provider="openai", llm_model_name="slow", llm_base_url=address, llm_api_key="none"),
            system_prompt="Use tools, then answer.",
            mcp_servers=["python"],
            mcp_config={"mcpServers": {"python": server}},
        )
        task = Task(input=question, agent=agent)
        found = await Runners.run_task(task)
        return found[task.id].answer


async def main(address: str, tasks: str, slots: str, python: str) -> None:
    questions = [json.loads(line)["question"] for line in Path(tasks).read_text().splitlines()]
    turns = asyncio.Semaphore(int(slots))
    answers = await asyncio.gather(*(play(question, address, python, turns) for question in questions))
    print(len(answers), answers[:2])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
