"""The elements of a stage as Slurm job arrays."""

from dataclasses import dataclass

from aworld.config import Site
from aworld.errors import InputError
from aworld.stages import Stage


@dataclass(frozen=True)
class Array:
    """What one call of sbatch submits: these elements of a stage, `at_once` of them at the same time."""

    elements: list[int]
    at_once: int


def arrays(site: Site, stage: Stage, elements: list[int] | None = None) -> list[Array]:
    """A stage's elements (None: all) in as few arrays as the site's limit allows, all of about the same length.

    `site.array_parallel` holds for all of them together: each gets its share.

    Raises:
        InputError: an array may have no element, or there are more arrays than elements may run at once.
    """
    if site.array_limit < 1:
        raise InputError(f"site.array_limit={site.array_limit} allows no element of an array; set it to 1 or more")
    left = list(range(stage.resources.elements)) if elements is None else elements
    count = -(-len(left) // site.array_limit)
    if 0 < site.array_parallel < count:
        raise InputError(
            f"{stage.name}: site.array_parallel={site.array_parallel} is less than the {count} arrays that "
            f"{len(left)} elements need where site.array_limit={site.array_limit}; raise it, or ask for fewer elements"
        )
    lengths = _shares(len(left), count)
    at_once = _shares(site.array_parallel, count) if site.array_parallel else lengths
    starts = [sum(lengths[:at]) for at in range(count)]
    return [
        Array(left[start : start + length], most) for start, length, most in zip(starts, lengths, at_once, strict=True)
    ]


def _shares(total: int, count: int) -> list[int]:
    return [total // count + (at < total % count) for at in range(count)]
