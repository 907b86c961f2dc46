"""The direction of dependencies: what each room may import. Data flows down this list and never back up."""

import ast
from pathlib import Path

import pytest

import aworld

pytestmark = pytest.mark.unit

SOURCE = Path(aworld.__file__).parent
BASE = {"bars", "errors", "imports", "endpoints", "config", "rundir", "publish", "locks", "processes", "nodelocal"}
BASE |= {"commands", "containers", "phase", "openai_client", "slurm", "stages", "caches", "ports", "shipped", "plugins"}
MAY_IMPORT = {
    **dict.fromkeys(BASE, BASE),
    "openai_client": set(),
    "tasks": BASE,
    "trajectories": BASE,
    "models": BASE,
    "policies": BASE,
    "agents": BASE | {"tasks", "trajectories"},
    "tools": {"openai_client"},
    "environments": BASE | {"tasks", "agents", "tools"},
    "inference": BASE | {"agents"},
    "rollout": BASE | {"tasks", "agents", "environments", "inference", "trajectories", "policies"},
    "training": BASE | {"trajectories", "policies"},
    "evaluation": BASE | {"tasks", "trajectories"},
    "export": BASE | {"tasks", "agents", "trajectories", "evaluation"},
    "planning": BASE | {"trajectories", "training"},  # of training only what it keeps on disk
    "trackers": BASE | {"trajectories", "evaluation", "planning"},
    "watch": BASE | {"tasks", "rollout", "trajectories", "evaluation", "trackers"},
    "launch": BASE
    | {"tasks", "agents", "models", "environments", "rollout", "training", "trajectories", "evaluation"}
    | {"watch", "planning", "policies", "trackers"},  # to submit what is missing, and to show what is under way
    "doctor": BASE | {"tasks", "environments", "rollout", "launch"},
    "cli": BASE
    | {"doctor", "tasks", "environments", "trajectories", "rollout", "training", "evaluation", "watch", "launch"}
    | {"planning", "policies", "export", "trackers"},
    "__main__": {"cli"},
}
ENGINES = {"vllm": "inference", "megatron": "training", "mbridge": "training", "mpi4py": "trajectories"}


def imports(path: Path) -> set[str]:
    """Every module a file imports, at its head or inside."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_what_lies_above_it(path):
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("aworld.")}
    assert rooms - {room(path)} <= MAY_IMPORT[room(path)]
    foreign = {ENGINES[top] for name in imports(path) if (top := name.split(".")[0]) in ENGINES}
    assert foreign <= {room(path)}


@pytest.mark.parametrize("path", sorted((SOURCE / "tools").rglob("*.py")), ids=lambda p: p.name)
def test_tool_servers_stand_alone(path):
    """They run inside a sandbox's image, where nothing else of ours need be."""
    ours = {name for name in imports(path) if name.startswith("aworld")}
    assert all(name.startswith(("aworld.tools", "aworld.openai_client")) for name in ours - {"aworld"})


def test_every_room_is_named_here():
    assert {room(path) for path in FILES} == set(MAY_IMPORT)
