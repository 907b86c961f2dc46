"""How long a workload took."""

from pathlib import Path

from aworld.publish import publish_json, read_jsonl


def publish_timing(folder: Path, gather_seconds: float = 0.0) -> None:
    """Publish `timing.json`: how long a workload took, in seconds, from each worker's lines in `timing.jsonl`.

    `rollout_seconds` count from the moment when the first worker has loaded its policy to the end of the last worker.
    """
    timings = read_jsonl(folder / "timing.jsonl")
    timing = {
        "rollout_seconds": max((t["ended"] for t in timings), default=0)
        - min((t["began"] + t["load_seconds"] for t in timings), default=0),
        "load_seconds": max((t["load_seconds"] for t in timings), default=0),
        "gather_seconds": gather_seconds,
    }
    publish_json(folder / "timing.json", timing)
