"""The tasks of a verifiers taskset, and what an answer to one is worth by its rewards; for verifiers 0.4 (its `v1`).

It runs by the Python that has verifiers: `verifiers_score.py TASKSET` prints each task as a line of JSON. As a
`Program` of `task.py` it scores in a sandbox, without a network. It imports nothing of aworld.
"""

import asyncio
import inspect
import json
import sys
from typing import Any

import verifiers.v1 as vf
from verifiers.v1.utils.loaders import taskset_class, taskset_config_type


def rows(name: str) -> None:
    """Print the tasks; a first line that is {"refused": why} says that they cannot be played here."""
    config, kind = taskset_config_type(name)(id=name), taskset_class(name).task_type()
    refused = fault(taskset_class(name), config)
    taskset = taskset_class(name)(config)
    if not refused and not taskset.bounded:
        refused = "it has no end"
    print(json.dumps({"refused": refused, "task": kind.__name__}))
    for task in () if refused else taskset:
        print(task.data.model_dump_json())


def fault(taskset: Any, config: Any) -> str:
    """Why a taskset cannot be scored by the answer alone; empty where it can."""
    kind = taskset.task_type()
    hooks = [
        name for name in ("setup", "finalize", "stage_verifier") if getattr(kind, name) is not getattr(vf.Task, name)
    ]
    if kind.NEEDS_CONTAINER or hooks:
        return f"{kind.__name__} needs a container or a step of its own ({', '.join(hooks) or 'NEEDS_CONTAINER'})"
    if taskset.toolsets(config) or kind.toolsets(config.task):
        return "it brings tool servers of its own"
    if config.task.judges:
        return "it asks a judge, and scorers have no network"
    wants = [name for name, given in inspect.getmembers(kind, inspect.isfunction) if _wants_runtime(given)]
    return f"its reward {wants[0]} looks into the agent's container" if wants else ""


def _wants_runtime(given: Any) -> bool:
    is_scorer = getattr(given, "reward", False) or getattr(given, "metric", False)
    runtime = inspect.signature(given).parameters.get("runtime") if is_scorer else None
    return runtime is not None and runtime.default is inspect.Parameter.empty


def score(request: dict[str, Any]) -> dict[str, float]:
    """The sum of the rewards, and each of them and of the metrics by its name."""
    config = taskset_config_type(request["taskset"])(id=request["taskset"])
    kind = taskset_class(request["taskset"]).task_type()
    task = kind(kind.data_type().model_validate(request["data"]), config.task)
    asked, answer = vf.UserMessage(content=task.data.prompt_text), vf.AssistantMessage(content=request["answer"])
    trace: Any = vf.Trace(
        task=vf.TraceTask(type=kind.__name__, data=task.data),
        agent=vf.AgentInfo(config=vf.AgentConfig()),
        nodes=[vf.MessageNode(message=asked), vf.MessageNode(message=answer, parent=0, sampled=True)],
        is_completed=True,
        ok=True,
    )
    asyncio.run(task.score(trace))
    parts = {name: given.score for name, given in trace.rewards.items() if given is not None}
    return {
        **{name: value for name, value in trace.metrics.items() if value is not None},
        **parts,
        "reward": trace.reward,  # last: a part may have that name
    }


if __name__ == "__main__":
    rows(sys.argv[1])
