"""The tasks of the experience benchmark by a pool of Ray actors, each with one conversation at a time.

python experience_ray.py ADDRESS TASKS.jsonl SLOTS PYTHON
"""

import json
import subprocess
import sys
from pathlib import Path

import ray
from openai import OpenAI
from ray.util import ActorPool

TOOL = {
    "type": "function",
    "function": {
        "name": "python",
        "description": "Run Python code.",
        "parameters": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
    },
}


@ray.remote(num_cpus=0)
class Actor:
    def __init__(self, address: str):
        self.client = OpenAI(base_url=address, api_key="none")

    def play(self, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        while True:
            message = (
                self.client.chat.completions.create(model="slow", messages=messages, tools=[TOOL]).choices[0].message
            )
            if not message.tool_calls:
                return message.content or ""
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls:
                result = run(json.loads(call.function.arguments)["code"])
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=10)
    return done.stdout or done.stderr


if __name__ == "__main__":
    address, tasks, slots, _ = sys.argv[1:]
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    pool = ActorPool([Actor.remote(address) for _ in range(int(slots))])
    questions = [json.loads(line)["question"] for line in Path(tasks).read_text().splitlines()]
    print(len(list(pool.map_unordered(lambda actor, question: actor.play.remote(question), questions))))
