"""A model behind a real endpoint that follows a script, and a run that evaluates it on a made-up copy of GAIA."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aworld.agents.endpoint import GREETING
from aworld.rollout.claims import Claims
from aworld.rundir import RunDir
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode

ROOT = Path(__file__).parents[2]
NAME = "teacher"
WORDS = "recipe=demo site=local name=run tasks.train=8 tasks.held_out=2 pipeline.rounds=0 training.cold_start.tasks=0"


def call(code: str) -> dict[str, Any]:
    function = {"name": "python", "arguments": json.dumps({"code": code})}
    return {"content": None, "tool_calls": [{"id": "call", "type": "function", "function": function}]}


class Model(ThreadingHTTPServer):
    """Answers what `says` makes of a request, a message or a status; `asked` holds every request, in order."""

    def __init__(self, says: Callable[[dict[str, Any]], dict[str, Any] | int], seconds: float = 0.0):
        self.asked: list[dict[str, Any]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if body["messages"] == GREETING:  # a greeting, whether it is there at all
                    said: dict[str, Any] | int = {"content": "ok"}
                else:
                    asked.append(body)
                    time.sleep(seconds)
                    said = says(body)
                message = {"role": "assistant", **said} if isinstance(said, dict) else {}
                choice = {"message": message, "finish_reason": "stop"}
                data = json.dumps({"choices": [choice], "usage": {"completion_tokens": 5}}).encode()
                self.send_response(said if isinstance(said, int) else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Who asked was killed."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def words(self) -> list[str]:
        return ["evaluation.endpoint.model=guest", f"evaluation.endpoint.base_url={self.address}"]


def python(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False, **more)


def prepare(folder: Path) -> RunDir:
    """A run that holds a policy 0, which nobody will ask."""
    done = python("-m", "aworld", "prepare", *WORDS.split(), f"runs={folder}")
    assert done.returncode == 0, done.stderr
    return RunDir(folder / "run")


def made_up_copy(folder: Path, rows: list[dict[str, Any]], files: dict[str, str] | None = None) -> Path:
    """In GAIA's older layout; a row has a task_id, a Question, a Final answer, and perhaps a file_name."""
    split = folder / "2023" / "validation"
    split.mkdir(parents=True)
    lines = [json.dumps({"Level": 1, "file_name": "", **row}) + "\n" for row in rows]
    (split / "metadata.jsonl").write_text("".join(lines))
    for name, text in (files or {}).items():
        (split / name).write_text(text)
    return folder


def begin(run: RunDir, copy: Path, *words: str) -> None:
    """`python jobs/evaluate.py … --begin-only`; in the same line it is resumed."""
    begun = ["--name", NAME, "tasks=gaia-validation", f"tasks.path={copy}", "agent=gaia", *words]
    begun += ["environment.servers=[python,files]", "environment.slots=2", "environment.reuse=reset"]
    done = python("jobs/evaluate.py", str(run.root), "--policy", "0", "--begin-only", *begun)
    assert done.returncode == 0, done.stderr


def worker(run: RunDir) -> list[str]:
    """The command that a task of the array runs."""
    return [sys.executable, "-m", "aworld", "evaluate", str(run.root), "--policy", "0", "--tasks", NAME]


def records(run: RunDir) -> list[Episode]:
    """Every record of every journal, doubles included, in the order of their identities."""
    paths = (run.evaluation(NAME, 0) / "journals").glob("*.journal")
    return sorted((e for path in paths for e in journal.read(path)), key=lambda e: e.identity)


def done_names(run: RunDir) -> set[str]:
    return Claims(run.evaluation(NAME, 0) / "claims", "", 0.0).marks().done
