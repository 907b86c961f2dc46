"""A local run whose cold start was trained undisturbed, with tensor parallel size 2: it knows 16 tasks by heart."""

from pathlib import Path

from warm import aworld

WORDS = """
    recipe=demo site=local tasks.train=16 tasks.held_out=2 environment.slots=2
    model.architecture.hidden_size=64 model.architecture.intermediate_size=128 model.architecture.num_hidden_layers=2
    training.cold_start.tasks=16 training.cold_start.batch_size=8 training.cold_start.lr=5e-3
""".split()


def make(folder: Path) -> None:
    """Fill `folder/run`. Its policy 0 repeats an episode with a chance of 0.4."""
    words = ["pipeline.rounds=1", "training.cold_start.epochs=100", "training.cold_start.stop_at=0.4"]
    played(aworld("prepare", *WORDS, *words, f"runs={folder}", "name=run").stdout.strip())


def played(root: str) -> Path:
    """Play, gather and train round 0 of a run."""
    for stage in ("rollout", "gather", "train"):
        done = aworld(stage, root, "--round", "0")
        assert done.returncode == 0, done.stderr
    return Path(root)
