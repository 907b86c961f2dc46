"""The batch scripts of a dry run: they are written, and Slurm checks them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from aworld.config import Config, Site, to_yaml
from aworld.errors import InfrastructureError, InputError
from aworld.launch.script import scripts, shape
from aworld.publish import publish_text
from aworld.slurm import last_line, run
from aworld.stages import Stage

UNREACHABLE = ("Unable to contact slurm controller", "Could not establish a configuration source")


def write(config: Config, stages: list[Stage], folder: Path) -> list[Path]:
    """Write the resolved configuration and every batch script; the ids in their dependencies are the stages' names.

    A stage in several arrays is STAGE.1.sbatch and so on.
    """
    publish_text(folder / "run.yaml", to_yaml(config))
    for old in folder.glob("*.sbatch"):
        old.unlink()
    paths = []
    for stage in stages:
        texts = scripts(config.site, stage, list(stage.after))
        for number, text in enumerate(texts, 1):
            paths.append(folder / f"{stage.name}{f'.{number}' if len(texts) > 1 else ''}.sbatch")
            publish_text(paths[-1], text)
    return paths


def check(config: Config, stages: list[Stage], folder: Path) -> Iterator[str]:
    """What `sbatch --test-only` says of the scripts: one line for each kind of stage and each set of options.

    Raises:
        InputError: Slurm would refuse one.
    """
    seen = set()
    for stage in stages:
        for text in scripts(config.site, stage, []):  # there are no jobs yet that it could depend on
            if (key := (stage.kind, shape(text))) not in seen:
                seen.add(key)
                yield f"{stage.kind.name}: {checked(config.site, stage, text, folder)}"


def checked(site: Site, stage: Stage, text: str, folder: Path) -> str:
    """What `sbatch --test-only` says of a stage's script; the text must depend on no job.

    Raises:
        InputError: Slurm would refuse it.
        InfrastructureError: Slurm does not answer.
    """
    if shutil.which("sbatch") is None:
        raise InputError("no sbatch on PATH; go to a login node of the cluster, or load Slurm's module")
    path = folder / f"{stage.name}.test-only"
    path.write_text(text)
    try:
        done = run(["sbatch", "--test-only", str(path)])
    finally:
        path.unlink()
    if any(words in done.stderr for words in UNREACHABLE):
        raise InfrastructureError(
            f"Slurm does not answer here ({last_line(done.stderr)}); go to a login node, or set SLURM_CONF"
        )
    if done.returncode:
        raise InputError(f"Slurm would refuse {stage.name}: {last_line(done.stderr)}; mend site '{site.name}'")
    return last_line(done.stderr).removeprefix("sbatch: ")
