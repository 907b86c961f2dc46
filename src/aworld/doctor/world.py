"""A rank of the doctor's MPI program: starts as a gather's does, in the image if there is one, and tells what it sees.

srun --mpi=pmi2 python -m aworld.doctor.world RUN.YAML
"""

import os
import sys
from pathlib import Path

from aworld import config as configuration
from aworld.containers import container_command
from aworld.errors import guarded

WORLD = "from mpi4py import MPI; print('size', MPI.COMM_WORLD.size, flush=True)"


def main() -> None:
    site = configuration.read(Path(sys.argv[1])).site
    command = container_command(site, site.images.megatron, [sys.executable, "-c", WORLD], [])
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(guarded(main))
