"""smolagents on made-up items, by a ToolCallingAgent; threads and a line of JSON per answer are as in its own example.

python smolagents_items.py FOLDER ADDRESS SLOTS ITEMS TOOL-SERVER …

Each question has an agent and a tool server of its own. The same command goes on with what a killed one left.
"""

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mcp import StdioServerParameters
from smolagents import OpenAIServerModel, ToolCallingAgent, ToolCollection

folder, address, slots, items, *server = sys.argv[1:]
answers, lock = Path(folder) / "answers.jsonl", threading.Lock()
rows = [json.loads(line) for line in Path(items).read_text().splitlines()]
done = {json.loads(line)["task_id"] for line in answers.read_text().splitlines()} if answers.exists() else set()
parameters = StdioServerParameters(command=server[0], args=server[1:], env=dict(os.environ))


def play(row):
    model = OpenAIServerModel("guest", api_base=address, api_key="none")
    with ToolCollection.from_mcp(parameters, trust_remote_code=True, structured_output=False) as tools:
        agent = ToolCallingAgent(tools=[*tools.tools], model=model, verbosity_level=0)
        answer = str(agent.run(row["Question"]))
    with lock, answers.open("a") as file:
        file.write(json.dumps({"task_id": row["task_id"], "answer": answer}) + "\n")


with ThreadPoolExecutor(int(slots)) as threads:
    for _ in threads.map(play, [row for row in rows if row["task_id"] not in done]):
        pass
