"""A round's makespan: episodes of known seconds in the slots of workers that may be preempted."""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from aworld.errors import InputError

SPREAD = 0.472  # sigma of a log-normal distribution whose deviation is half its mean: √ln(1 + 0.5²)
MOST_PREEMPTIONS = 5.0  # expected while the longest episode is played; one in 148 tries would end
FINISHED, PREEMPTED, BACK = range(3)  # in the order in which events of one moment are taken
Event = tuple[float, int, int, int, int]  # when, its kind, the worker, the slot, the number of the start


@dataclass(frozen=True)
class Preemption:
    """How a queue takes workers away.

    Attributes:
        per_hour: preemptions of one worker in an hour that it runs.
        away_seconds: from one to the worker's next episode: the queue, and the start of vLLM.
    """

    per_hour: float = 0.0
    away_seconds: float = 600.0


NEVER = Preemption()


@dataclass(frozen=True)
class Outcome:
    """A simulated round.

    Attributes:
        seconds: until the last episode is finished.
        busy: the share of all slots' time in which an episode was played that was finished.
        lost_seconds: of episodes that were in flight at a preemption, over all slots.
    """

    seconds: float
    busy: float
    preemptions: int = 0
    lost_seconds: float = 0.0


def makespan(
    episodes: Sequence[float],
    workers: int,
    slots: int,
    preemption: Preemption = NEVER,
    *,
    seed: int = 0,
    longest_first: bool = True,
) -> Outcome:
    """Play the episodes of a round: a slot that is free takes the next one.

    A preempted worker loses its episodes in flight. They are played anew by the slots that are free next.

    Without preemption the makespan is at least max(longest, sum / slots in all), and by longest-first at most
    4/3 − 1/(3m) times the best of m slots (Graham 1969).

    Args:
        episodes: seconds of each.
        workers: with `slots` slots each.
        seed: of the times of preemption.
        longest_first: whether episodes are taken in falling order of their seconds; else as they come.

    Raises:
        InputError: workers are preempted so often that the longest episode hardly ever ends.
    """
    longest = max(episodes, default=0.0)
    if preemption.per_hour * longest / 3600 > MOST_PREEMPTIONS:
        raise InputError(
            f"{preemption.per_hour:g} preemptions an hour: an episode of {longest:.0f} s would hardly ever end; choose "
            "another partition, or shorter episodes"
        )
    rng = random.Random(f"preemptions/{seed}")
    waiting = [(-seconds if longest_first else at, at) for at, seconds in enumerate(episodes)]
    heapq.heapify(waiting)
    idle = [(worker, slot) for worker in range(workers) for slot in range(slots)]
    heapq.heapify(idle)
    under_way: dict[tuple[int, int], tuple[int, int, float]] = {}  # by place: the start, the episode, and when
    events: list[Event] = []
    starts, left, now, lost, preemptions = 0, len(episodes), 0.0, 0.0, 0

    def expect_preemption(worker: int) -> None:
        if preemption.per_hour:
            heapq.heappush(events, (now + rng.expovariate(preemption.per_hour / 3600), PREEMPTED, worker, 0, 0))

    for worker in range(workers):
        expect_preemption(worker)
    while left:
        while waiting and idle:
            place, (_, at) = heapq.heappop(idle), heapq.heappop(waiting)
            starts += 1
            under_way[place] = (starts, at, now)
            heapq.heappush(events, (now + episodes[at], FINISHED, *place, starts))
        now, kind, worker, slot, start = heapq.heappop(events)
        if kind == FINISHED and under_way.get((worker, slot), (0,))[0] == start:  # else it was lost before
            del under_way[worker, slot]
            heapq.heappush(idle, (worker, slot))
            left -= 1
        elif kind == PREEMPTED:
            preemptions += 1
            for place in [place for place in under_way if place[0] == worker]:
                _, at, began = under_way.pop(place)
                lost += now - began
                heapq.heappush(waiting, (-episodes[at] if longest_first else at, at))
            idle = [place for place in idle if place[0] != worker]
            heapq.heapify(idle)
            heapq.heappush(events, (now + preemption.away_seconds, BACK, worker, 0, 0))
        elif kind == BACK:
            for slot in range(slots):
                heapq.heappush(idle, (worker, slot))
            expect_preemption(worker)
    total = workers * slots * now
    return Outcome(now, sum(episodes) / total if total else 1.0, preemptions, lost)


def run_seconds(rollout: float, train: float, rounds: int, max_lag: int) -> float:
    """Seconds of a whole run whose rounds all take as long.

    Rollout r waits for policy r − 1 − max_lag and the rollout before it; training r for rollout r and training r − 1.
    """
    played, trained = [0.0], [0.0]
    for number in range(1, rounds + 1):
        policy = trained[max(0, number - 1 - max_lag)]
        played.append(max(played[-1], policy) + rollout)
        trained.append(max(trained[-1], played[-1]) + train)
    return trained[-1]


def episode_lengths(mean: float, longest: int, count: int, seed: int) -> list[int]:
    """Tokens of `count` episodes, log-normal with a deviation of half the mean, each at most `longest`.

    It stands for lengths that nobody has measured yet. They are scaled to `mean` before they are cut.
    """
    rng = random.Random(f"lengths/{seed}")
    drawn = [rng.lognormvariate(0.0, SPREAD) for _ in range(count)]
    scale = mean / fmean(drawn)
    return [max(1, min(longest, round(scale * one))) for one in drawn]
