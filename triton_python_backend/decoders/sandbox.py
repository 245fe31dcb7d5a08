"""What a decoder process may not do: a picture that takes it over gains little.

Limits of memory and files apply everywhere. The filter of system calls (seccomp) is known for
x86-64 and arm64.
"""

import ctypes
import os
import platform
import resource
import struct
from typing import Final

from triton_python_backend.decoding import most_pixels

_BYTES_PER_PIXEL: Final = 32
"""What libraries need for a pixel at most: 16 bits a channel, several copies."""
_MORE_BYTES: Final = 1 << 30
_FILES: Final = 16

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | 1
"""The call fails with EPERM."""
_KILL: Final = 0x80000000
_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_FROM: Final = 0x35
"""Jump if the value is this one or larger."""
_RETURN: Final = 0x06
_NUMBER_AT, _MACHINE_AT = 0, 4
"""Offsets in `struct seccomp_data`."""

_MACHINES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""The kernel's name of a machine, and the column in `_FORBIDDEN`."""
_SECOND_NUMBERS: Final = 0x40000000
"""From here on x86-64 has each call a second time (x32)."""
_FORBIDDEN: Final[dict[str, tuple[int | None, int | None]]] = {
    # by name: numbers on x86-64 and arm64
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
    "socketpair": (53, 199),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "clone": (56, 220),
    "clone3": (435, 435),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "open": (2, None),
    "creat": (85, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "mount": (165, 40),
    "setns": (308, 268),
    "unshare": (272, 97),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
}
"""Network, programs, processes, other processes' memory, files: a decoder has all it needs."""


def enter() -> None:
    """Limit this process for good; call it in a new child, before it sees an image.

    The child keeps what it has open. Raises OSError if a limit cannot be set.
    """
    _limit(resource.RLIMIT_DATA, _BYTES_PER_PIXEL * most_pixels() + _MORE_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    # neither a file nor the shared memory may grow; what libraries say about a picture is dropped
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, _FILES)
    libc = ctypes.CDLL(None, use_errno=True)
    _control(libc, _PR_SET_DUMPABLE, 0)
    _control(libc, _PR_SET_NO_NEW_PRIVS, 1)
    machine = _MACHINES.get(platform.machine())
    if machine is not None:
        _filter_calls(libc, *machine)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _filter_calls(libc: ctypes.CDLL, machine: int, column: int) -> None:
    """Make the forbidden calls fail, and end the process at calls of another machine's kind."""
    numbers = [each[column] for each in _FORBIDDEN.values()]
    known = [number for number in numbers if number is not None]
    program = [
        _instruction(_LOAD, _MACHINE_AT),
        _instruction(_JUMP_IF_EQUAL, machine, then=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_JUMP_FROM, _SECOND_NUMBERS, then=len(known) + 1),
        *(
            _instruction(_JUMP_IF_EQUAL, number, then=len(known) - at)
            for at, number in enumerate(known)
        ),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    head = struct.pack("HL", len(program), ctypes.addressof(code))
    _control(libc, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.create_string_buffer(head))


def _instruction(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """Make an instruction of the kernel's filter language; `then` and `otherwise` skip some."""
    return struct.pack("HBBI", code, then, otherwise, value)


def _control(libc: ctypes.CDLL, option: int, value: int, more: object = 0) -> None:
    if libc.prctl(option, ctypes.c_ulong(value), more, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
