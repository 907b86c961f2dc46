"""The tasks of the experience benchmark by verifiers: a ToolEnv, of the older API, whose tool runs Python in a process.

python experience_verifiers.py ADDRESS TASKS.jsonl SLOTS PYTHON
"""

import asyncio
import json
import os
import sys
from pathlib import Path

os.environ["NO_KEY"] = "none"

import verifiers as vf
from datasets import Dataset
from verifiers.types import ClientConfig


async def python(code: str) -> str:
    """Run Python code.

    Args:
        code: the program.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", code, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), 10)
    return (out or err).decode()


def solved(completion: list, answer: str) -> float:
    return float(answer in str(completion[-1]))


async def main(address: str, tasks: str, slots: str, _: str) -> None:
    rows = [json.loads(line) for line in Path(tasks).read_text().splitlines()]
    dataset = Dataset.from_list([{"question": row["question"], "answer": row["answer"]} for row in rows])
    environment = vf.ToolEnv(tools=[python], max_turns=6, dataset=dataset, rubric=vf.Rubric(funcs=[solved]))
    client = ClientConfig(api_base_url=address, api_key_var="NO_KEY")
    await environment.evaluate(
        client, "slow", num_examples=len(rows), rollouts_per_example=1, max_concurrent=int(slots)
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
