"""A process whose file systems have no locks, as Lustre mounted without -o flock: by the kernel, not by the program."""

import ctypes
import platform
import struct

import pytest

FLOCK = {"x86_64": 73, "aarch64": 32}  # number of the system call

needed = pytest.mark.skipif(platform.machine() not in FLOCK, reason="number of flock unknown for this processor")


def refuse_flock() -> None:
    """Let the kernel answer flock by ENOSYS (a seccomp filter of four instructions). Fit to be a `preexec_fn`."""
    load, jump, answer = 0x20, 0x15, 0x06
    steps = [
        (load, 0, 0, 0),
        (jump, 0, 1, FLOCK[platform.machine()]),
        (answer, 0, 0, 0x00050026),
        (answer, 0, 0, 0x7FFF0000),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    header = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, header, 0, 0):  # no_new_privs, then the filter
        raise OSError(ctypes.get_errno(), "seccomp")
