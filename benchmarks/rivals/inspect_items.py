"""Inspect's runner on made-up items: `eval_set`, `react`, and the tool server that is given, one for each sample.

python inspect_items.py FOLDER ADDRESS SLOTS ITEMS TOOL-SERVER …

The same command goes on with what a killed one left. FOLDER/answers.json has the answers in the end.
"""

import json
import os
import sys
from pathlib import Path

from inspect_ai import Task, eval_set
from inspect_ai.agent import react
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import read_eval_log
from inspect_ai.scorer import match
from inspect_ai.tool import mcp_server_stdio, mcp_tools

folder, address, slots, items, *server = sys.argv[1:]
rows = [json.loads(line) for line in Path(items).read_text().splitlines()]
os.environ |= {"LOCAL_API_KEY": "none", "LOCAL_BASE_URL": address}
python = mcp_server_stdio(command=server[0], args=server[1:], env=dict(os.environ))
task = Task(
    name="items",
    dataset=MemoryDataset([Sample(id=r["task_id"], input=r["Question"], target=r["Final answer"]) for r in rows]),
    solver=react(tools=[mcp_tools(python)]),
    scorer=match("exact"),
)
done, logs = eval_set(
    task,
    log_dir=str(Path(folder) / "logs"),
    model="openai-api/local/guest",
    max_connections=int(slots),
    max_samples=int(slots),
    display="none",
)
answers = {}
for log in logs:
    for sample in read_eval_log(log.location).samples or []:
        # a sample of before a kill has lost its output, but not its score
        answers[str(sample.id)] = sample.scores["match"].answer if sample.scores else None
(Path(folder) / "answers.json").write_text(json.dumps(answers))
sys.exit(not done)
