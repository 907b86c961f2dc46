"""Where contexts lie, read by hand."""

from aworld.trajectories.arrays import Trajectories


def spans_of(trajectories: Trajectories, episode: int) -> list[tuple[int, int]]:
    """Begin and end of each of an episode's contexts, by hand."""
    begin, end = trajectories.offsets[episode : episode + 2]
    first, last = trajectories.context_offsets[episode : episode + 2]
    starts = [int(begin + start) for start in trajectories.contexts["start"][first:last]]
    return list(zip(starts, [*starts[1:], int(end)], strict=True))
