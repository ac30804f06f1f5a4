"""Has glibc's malloc give back what it holds: by itself, a daemon of days keeps the most it ever needed, and more."""

import contextlib
import ctypes
import os

_OPTIONS = (
    # (variable that goes before it, number in glibc's malloc.h, value)
    ("MALLOC_ARENA_MAX", -8, 2),                # by default each core may have eight, and each holds what it freed
    ("MALLOC_MMAP_THRESHOLD_", -3, 1 << 20),    # larger blocks go back when freed; by default up to 32 MiB would stay
    ("MALLOC_TRIM_THRESHOLD_", -1, 8 << 20),    # and twice that at the heap's end
)


def trim_malloc() -> None:
    """Gives back whole pages that are free between others in use; takes a millisecond or two."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def configure_malloc() -> None:
    """Sets what the environment does not set; does nothing with another C library."""
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for variable, option, value in _OPTIONS:
            if variable not in os.environ:
                mallopt(option, value)
