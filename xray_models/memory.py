"""Memory that was freed is kept for the next tensors, instead of being given back and fetched anew each time.

Each layer of a network frees what the one before needed. By default glibc gives blocks of many megabytes back to the
system at once, and the system clears every page of the next one, which on a CPU can take longer than the layer.
"""

from __future__ import annotations

import ctypes
import os
import sys

# of <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
_MIB = 2**20
_KEPT = 2047 * _MIB  # bytes of freed memory, at most; a C int holds no more


def keep_memory() -> bool:
    """Keeps up to 2 GiB of freed memory, from here on; for the start of a command that has much to compute.

    The next tensor, image or table takes what is kept. It matters to no result. Call it before there are threads: one
    that has allocated by then keeps an arena of its own, where a panel's forwards took 1.4 times as long (torch, two
    cores).

    Returns:
        Whether it was done. It is not where malloc is not glibc's, or where its user has set it by `MALLOC_...`.
    """
    own = [name for name in os.environ if name.startswith("MALLOC_") and name.endswith("_")]
    if own or "GLIBC_TUNABLES" in os.environ:
        return False
    return _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: _KEPT, _ARENA_MAX: 1})


def release_memory() -> bool:
    """Gives freed memory back, as glibc does by itself once it has seen large blocks; for what is compared with us."""
    return _set({_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * _MIB, _TRIM_THRESHOLD: 64 * _MIB})


def _set(options: dict[int, int]) -> bool:
    """Calls mallopt for each option, up to the first that is refused; returns whether all were taken."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in options.items())
