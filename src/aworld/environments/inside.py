"""Start a command inside a task's image: `inside.py MEMORY_BYTES FILE_BYTES COMMAND …`.

It needs nothing of the image. Apptainer unblocks the signals that Slurm sends to every process of a job, and passes
them on: the command ignores them. HOME has to be set here, as Apptainer refuses to.
"""

import os
import resource
import signal
import sys

memory, size, *command = sys.argv[1:]
for limit, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, size), (resource.RLIMIT_CORE, "0")):
    resource.setrlimit(limit, (int(value), int(value)))
for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, signal.SIG_IGN)
os.environ["HOME"] = "/root"
try:
    os.execvp(command[0], command)
except OSError as reason:
    sys.exit(f"{command[0]} does not start: {reason.strerror}")
