"""Checks of Slurm and of the site's configuration, made on the login node."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from aworld.config import Config
from aworld.doctor.check import Check, degraded, missing, ok
from aworld.errors import InfrastructureError, InputError
from aworld.launch.preview import checked
from aworld.launch.script import scripts
from aworld.rundir import RunDir
from aworld.slurm import ask
from aworld.stages import KINDS, Stage

MINUTES = re.compile(r"(?:(\d+)-)?(\d+):(\d+):(\d+)")


def checks(config: Config, folder: Path) -> Iterator[Check]:
    """Everything about Slurm; `folder` is where a run would be."""
    if shutil.which("sbatch") is None:
        yield missing("Slurm", "no sbatch on PATH", "load Slurm's module, or use site=local")
        return
    try:
        settings = dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", ask("scontrol", "show", "config"), re.MULTILINE))
    except InfrastructureError as reason:
        yield missing("Slurm", str(reason), "ask the site's support; nothing can be submitted")
        return
    yield ok("Slurm", settings.get("SLURM_VERSION", "of an unknown version"))
    yield from _partitions(config)
    yield _preemption(settings)
    yield _requeue(settings)
    yield _arrays(config, settings)
    yield _accounting()
    yield from _scripts(config, folder)


def _partitions(config: Config) -> Iterator[Check]:
    lines = ask("sinfo", "--noheader", "--format=%R|%l|%D|%a").splitlines()
    there = {name: (limit, nodes, state) for name, limit, nodes, state in (line.split("|") for line in lines)}
    for kind in KINDS:
        stage, resources = kind.name, getattr(config.site, kind.name)
        name = resources.partition
        label = f"partition of {stage}"
        if not name:
            yield ok(label, "the site's default")
        elif name not in there:
            yield missing(label, f"there is no '{name}'", f"set site.{stage}.partition to one of: {', '.join(there)}")
        else:
            limit, nodes, state = there[name]
            most = _minutes(limit)
            if most is not None and most < resources.minutes:
                mend = f"set site.{stage}.minutes={most}; the run goes on after each requeue"
                yield missing(label, f"'{name}' allows {most} minutes, {resources.minutes} are asked for", mend)
            elif int(nodes) < resources.nodes:
                yield missing(label, f"'{name}' has {nodes} nodes", f"set site.{stage}.nodes to {nodes} at most")
            else:
                yield ok(label, f"'{name}' is {state}: {nodes} nodes, time limit {limit}")


def _minutes(limit: str) -> int | None:
    """The minutes of a time limit as sinfo prints it; None: there is none."""
    found = MINUTES.fullmatch(limit if limit.count(":") == 2 else f"0:{limit}" if ":" in limit else "")
    return sum(int(n or 0) * m for n, m in zip(found.groups(), (1440, 60, 1, 0), strict=True)) if found else None


def _preemption(settings: dict[str, str]) -> Check:
    kind, how = settings.get("PreemptType", "none"), settings.get("PreemptMode", "OFF")
    if "none" in kind or how == "OFF":
        return ok("preemption", "there is none")
    if "preempt_send_user_signal" in settings.get("SlurmctldParameters", ""):
        return ok("preemption", f"{kind}, {how}; jobs get their signal first")
    mend = "lower training.save_seconds for jobs on preemptible partitions"
    return degraded("preemption", f"{kind}, {how}; without preempt_send_user_signal a job hears of it by TERM", mend)


def _requeue(settings: dict[str, str]) -> Check:
    if settings.get("JobRequeue") == "1" or "REQUEUE" in settings.get("PreemptMode", ""):
        return ok("requeue", "jobs that ask for it are put back into the queue")
    return degraded("requeue", "the site does not by itself", "after a loss: aworld resume RUN")


def _arrays(config: Config, settings: dict[str, str]) -> Check:
    most = int(settings.get("MaxArraySize", 1001)) - 1
    if config.site.array_limit > most:
        mend = f"set site.array_limit={most}"
        return missing("arrays", f"of {most} elements at most, site.array_limit={config.site.array_limit}", mend)
    return ok("arrays", f"of {most} elements at most; longer ones are split at site.array_limit")


def _accounting() -> Check:
    try:
        ask("sacct", "--noheader", "--allocations", "--format=JobID")
    except InfrastructureError as reason:
        return degraded("accounting", str(reason), "status then asks squeue, which forgets jobs that ended")
    return ok("accounting", "sacct answers")


def _scripts(config: Config, folder: Path) -> Iterator[Check]:
    run = RunDir(folder)
    for kind in KINDS:
        try:
            wanted = Stage.of(kind, config, run, 0)
            said = checked(config.site, wanted, scripts(config.site, wanted, [])[0], folder)
        except InputError as reason:
            yield missing(f"script of {kind.name}", str(reason), "change what the site's file asks for")
        else:
            yield ok(f"script of {kind.name}", said)
