"""`aworld watch`: a full screen in a terminal, and one line for each change elsewhere, until the run ends."""

import io
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from aworld.config import Config
from aworld.errors import InfrastructureError, printable
from aworld.rundir import RunDir
from aworld.watch.keys import keys
from aworld.watch.overview import ROWS, UNDER_WAY, Overview, picture
from aworld.watch.page import PAGES, page
from aworld.watch.slow import duration
from aworld.watch.status import StageStatus
from aworld.watch.view import View, Watched

LOOK_SECONDS = 2.0  # between two looks at the run's files, at least
KEY_SECONDS = 0.2  # between two looks whether the terminal has another size
LATE_SECONDS = 10.0  # a look that takes longer is spoken of
TRANSIENT = (InfrastructureError, OSError)  # a shared file system, or Slurm, that fails for a moment


def watch(config: Config, run: RunDir, console: Console, every: float | None = None) -> int:
    """Show how far the run is until it is finished or stops, or a person has seen enough.

    Args:
        every: seconds between two looks at the run's files; None: as often as its stages look. Slurm is asked every
            `site.queue_seconds` in any case.

    Returns:
        FINISHED, STOPPED or, where a person quits, UNDER_WAY: the exit code.
    """
    watched = Watched(config, run)
    seconds = every or max(LOOK_SECONDS, config.site.poll_seconds)
    has_screen = console.is_terminal and not console.is_dumb_terminal
    overview = _on_screen(watched, seconds, console) if has_screen else _line_by_line(watched, seconds, console)
    if overview is None:
        return UNDER_WAY
    console.print(picture(overview, console, console.height if console.is_terminal else ROWS))
    return overview.code


class Looks(threading.Thread):
    """Looks at a run again and again, in a thread: a slow file system holds up no key. Ends with the run.

    Attributes:
        view: the last one; None before the first.
        note: what a person should know of the looks.
        failure: the error that ended the looks.
    """

    def __init__(self, watched: Watched, every: float):
        super().__init__(daemon=True)  # a file system that hangs does not hold up the end
        self.watched, self.every = watched, every
        self.view: View | None = None
        self.failure: BaseException | None = None
        self._trouble, self._began = "", time.monotonic()

    def run(self) -> None:
        while self.view is None or self.view.overview.code == UNDER_WAY:
            self._began = time.monotonic()
            try:
                self.view = self.watched.look()
                self._trouble = self.watched.jobs.complaint
            except TRANSIENT as reason:
                self._trouble = str(reason)
                if self.view is None:
                    self.failure = reason
                    return
            except BaseException as error:
                self.failure = error
                return
            time.sleep(self.every)

    @property
    def note(self) -> str:
        late = time.monotonic() - self._began - self.every
        slow = f"the files answer slowly: a look takes {duration(late)} so far" if late > LATE_SECONDS else ""
        return slow or (f"{self._trouble}; looking again" if self._trouble else "")


def _on_screen(watched: Watched, every: float, console: Console) -> Overview | None:
    """Show the pages until the run ends; returns the last overview. None: a person quits."""
    looks = Looks(watched, every)
    with (
        redirect_stderr(io.StringIO()),  # warnings of readers, which would tear the page
        _ended_by_signals(),
        keys() as wait,
        Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live,
    ):
        looks.start()
        name, top = PAGES[0], 0
        shown: tuple[object, ...] = ()
        while True:
            if looks.failure:
                raise looks.failure
            view, note = looks.view, looks.note
            if view and view.overview.code != UNDER_WAY:
                return view.overview
            now = (view and view.read_at, int(time.time()), console.size, name, top, note)
            if now != shown:
                shown = now
                if view:
                    content, top = page(view, name, top, console, note)
                    live.update(content, refresh=True)
                else:
                    live.update(Text(note or f"reading {watched.run.root} …"), refresh=True)
            match wait(KEY_SECONDS):
                case "quit":
                    return None
                case "next" | "back" as way:
                    step = 1 if way == "next" else -1
                    name, top = PAGES[(PAGES.index(name) + step) % len(PAGES)], 0
                case "up" | "page up" as way:
                    top -= 1 if way == "up" else console.height // 2
                case "down" | "page down" as way:
                    top += 1 if way == "down" else console.height // 2


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program by an exception meanwhile, so that the screen is restored."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    # Suspended, a program would leave its page on the screen and the terminal without echo.
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _line_by_line(watched: Watched, every: float, console: Console) -> Overview:
    """Print a line for each stage that got on, until the run ends."""
    said: dict[tuple[str, str], str] = {}
    complaint = ""
    view: View | None = None
    while view is None or view.overview.code == UNDER_WAY:
        if view:
            time.sleep(every)
        try:
            view = watched.look()
        except TRANSIENT as reason:  # it answered before, and will again
            if view is None:
                raise
            print(f"warning: {reason}; looking again in {every:g} s", file=sys.stderr, flush=True)
            continue
        if complaint != watched.jobs.complaint:
            complaint = watched.jobs.complaint
            if complaint:
                print(f"warning: {printable(complaint)}; looking again", file=sys.stderr, flush=True)
        for stage in view.overview.stages:
            key, text = (stage.kind.name, stage.workload), _state(stage)
            if said.get(key, "") != text:
                said[key] = text
                line = f"{time.strftime('%H:%M:%S')} {stage.workload}: {stage.kind.name} {text}"
                console.print(Text(printable(line)), soft_wrap=True)
    return view.overview


def _state(stage: StageStatus) -> str:
    """How far a stage is; empty before it began."""
    if stage.finished:
        return "done"
    loss = "" if stage.loss is None else f", loss {stage.loss:.3f}"
    return f"{stage.done}/{stage.total}{loss}" if stage.is_begun else ""
