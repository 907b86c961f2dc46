#!/usr/bin/env python
"""Episodes of ours and of others: the same tasks, the same tool, the same slow model, 16 at a time.

    python benchmarks/experience.py                        # 5 minutes: bounds, list scheduling, a Slurm array
    python benchmarks/experience.py --rivals               # 10 minutes, once they are installed: other systems
    python benchmarks/experience.py --median 1 --tasks 16  # to try it

64 tasks have one call of Python and an answer. Each turn of the model takes seconds that are drawn once: log-normal
with a median of 4 s. An endpoint on this machine answers after them, so that everyone sees the same. All that a command
takes from its start to its end counts: imports, sandboxes, scoring, writing. The endpoint's own CPU does not. Ours on
reused servers and on Slurm is played once, the rest as often as `--repeats` says.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from course import ELEMENTS, RIVALS, Course, Measured, Setting, endpoint, makespan, rival
from results import Figure, alternate, keep, losses, positive, table
from rich.console import Console
from rivals import left_out, version
from slow_endpoint import Latency

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cluster"))

from aworld.errors import guarded

MB = 2**20
RIVALS_SAY = (
    "Ours starts a sandbox for each episode and records it durably. No rival contains the tool: each call is a process "
    "of Python, or a server's. The verifiers rival is its ToolEnv, of the older API."
)
LIST = (
    "List scheduling is the time of the model's turns alone, each task going to the first free slot in the order in "
    "which ours began them."
)
KNOWN = (
    "Tasks that were evaluated before are played longest first, and the goal of 1.5 is for those. Of others ours knows "
    "no better order than the given one."
)
OURS = "Ours is the worker's whole command; its settings were fixed before."
SLURM = "On Slurm, ours is the launcher and its jobs; the cluster is up before."
MEMORY = (
    "Memory is the PSS of all processes, the worker's too, by the number of slots; on Slurm its daemons count as well."
)
SEQUENTIAL = "The sequential rival is the sum of the model's seconds alone: no tool, no start."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=positive, default=64)
    parser.add_argument("--slots", type=positive, default=16)
    parser.add_argument("--median", type=float, default=4.0, help="seconds of a turn of the model")
    parser.add_argument("--repeats", type=positive, default=2)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--rivals", action="store_true", help="measure other systems beside ours")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results")
    return guarded(partial(measure, parser.parse_args()))


def measure(arguments: argparse.Namespace) -> None:
    setting = Setting(Latency(arguments.seed, arguments.median), arguments.tasks, arguments.slots)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="experience-")))
        course = Course(setting, stack.enter_context(endpoint(setting.latency)), folder)
        course.prepare()
        faults: dict[str, str] = {}
        if arguments.rivals:
            figures, says, faults = against_rivals(course, arguments.repeats)
        else:
            figures, says = against_bounds(course, arguments.repeats)
    title = f"Experience: {setting.tasks} episodes, {setting.slots} at a time"
    says = [about(setting), *says]
    if not arguments.keep:
        Console().print(table(title, figures))
        print(*says, sep="\n")
    elif arguments.rivals:
        packages = [version(rival(name), package) for name, (package, *_) in RIVALS.items() if name not in faults]
        keep("experience-rivals", f"{title}, beside other systems", says, figures, packages)
    else:
        keep("experience", title, says, figures)


def about(setting: Setting) -> str:
    longest, whole = max(setting.durations), sum(setting.durations)
    best = makespan(sorted(setting.durations, reverse=True), setting.slots)
    return (
        f"A turn of the model takes {setting.latency.median:g} s in the median, the longest episode {longest:.1f} s, "
        f"all of them {whole:.0f} s. So no order ends before {setting.bound:.1f} s, which is "
        f"{whole / setting.bound:.1f} times as fast as one after the other. Longest first takes {best:.1f} s without "
        "any cost. Each command counts from its start to its end."
    )


def against_bounds(course: Course, repeats: int) -> tuple[list[Figure], list[str]]:
    """Ours against the bound, list scheduling, and one episode after the other."""
    setting, bound, whole = course.setting, course.setting.bound, sum(course.setting.durations)
    found = passes(repeats, never=lambda: course.play("never"), again=lambda: course.play_again("pass-1"))
    found |= passes(1, reset=lambda: course.play("reset"), slurm=course.play_on_slurm)

    def listed(name: str) -> list[float]:
        return [setting.listed(each.order) / each.used.seconds for each in found[name]]

    def per(name: str, total: Callable[[Measured], float], count: int) -> list[float]:
        return [total(each) / count for each in found[name]]

    seconds = {name: [each.used.seconds for each in some] for name, some in found.items()}
    figures = [
        Figure("list scheduling / ours, a new sandbox per episode", listed("never"), at_least=0.97),
        Figure("list scheduling / ours, reused servers", listed("reset"), at_least=0.97),
        Figure(f"list scheduling / ours, a Slurm array of {ELEMENTS}", listed("slurm")),
        Figure("list scheduling / ours, evaluated before", listed("again")),
        Figure("bound / ours, evaluated before", [bound / one for one in seconds["again"]], at_least=0.95),
        Figure(
            "one after the other / ours, evaluated before", [whole / one for one in seconds["again"]], at_least=14.6
        ),
        Figure("one after the other / ours", [whole / one for one in seconds["never"]]),
    ]
    figures += [
        Figure("from the start to the first turn", [each.start for each in found["never"]], "s"),
        Figure("from sbatch's launcher to the first turn", [each.start for each in found["slurm"]], "s"),
    ]
    for name, words in (("never", "a new sandbox per episode"), ("reset", "reused servers"), ("slurm", "Slurm array")):
        figures.append(Figure(f"CPU of an episode, {words}", per(name, lambda each: each.used.cpu, setting.tasks), "s"))
        memory = per(name, lambda each: each.used.memory / MB, setting.slots)
        figures.append(Figure(f"memory of a live environment, {words}", memory, "MB"))
    return figures, [OURS, SLURM, LIST, SEQUENTIAL, MEMORY]


def against_rivals(course: Course, repeats: int) -> tuple[list[Figure], list[str], dict[str, str]]:
    """Ours, with a new sandbox per episode, against each rival: figures, sentences, and why a rival is left out."""
    faults: dict[str, str] = {}

    def play(name: str) -> Measured | None:
        if name not in faults:
            with left_out(name, faults):
                return course.play_rival(name)
        return None

    ours = {"ours": lambda: course.play("never"), "again": lambda: course.play_again("pass-1")}
    found = passes(repeats, **ours, **{name: partial(play, name) for name in RIVALS})
    figures, listed = [], median(course.setting.listed(each.order) for each in found["ours"])
    for name in [name for name in RIVALS if name not in faults]:
        pairs = list(zip(found[name], found["ours"], strict=True))
        again = [other.used.seconds / own.used.seconds for other, own in zip(found[name], found["again"], strict=True)]
        goal = 1.5 if name == "Original AWorld" else None
        figures += [
            Figure(f"{name} / ours, seconds", [other.used.seconds / own.used.seconds for other, own in pairs]),
            Figure(f"{name} / list scheduling", [one.used.seconds / listed for one in found[name]]),
            Figure(f"{name} / ours, evaluated before, seconds", again, at_least=goal),
            Figure(f"{name} / ours, CPU", [other.used.cpu / own.used.cpu for other, own in pairs], at_least=1.0),
            Figure(f"{name} / ours, memory", [other.used.memory / own.used.memory for other, own in pairs]),
        ]
    says = [
        OURS,
        KNOWN,
        LIST,
        RIVALS_SAY,
        *losses(figures),
        *(f"{name} failed here and is left out." for name in faults),
    ]
    own = [each.used.cpu / course.setting.tasks for each in found["ours"]]
    return [*figures, Figure("CPU of an episode of ours", own, "s")], says, faults


def passes(repeats: int, **played: Callable[[], Measured | None]) -> dict[str, list[Measured]]:
    """The passes of each, which alternate; without those that failed."""
    found: dict[str, list[Measured]] = {name: [] for name in played}

    def kept(name: str) -> float:
        if (done := played[name]()) is None:
            return 0.0
        found[name].append(done)
        return done.used.seconds

    alternate(repeats, **{name: partial(kept, name) for name in played})
    return found


if __name__ == "__main__":
    sys.exit(main())
