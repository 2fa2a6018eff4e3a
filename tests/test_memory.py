"""Freed memory is kept, or given back: told by the pages that the system has to find."""

import subprocess
import sys

import pytest

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
COUNT = """
import ctypes, resource, sys
from xray_models.memory import keep_memory, release_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
print({way})
def fill():
    block = libc.malloc({size})
    ctypes.memset(block, 1, {size})
    libc.free(block)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_pages(way, megabytes, **environment):
    """What `way` returns, and the pages that ten equal blocks of memory, one after the other, need."""
    code = COUNT.format(way=way, size=megabytes * 2**20)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    said, pages = done.stdout.split()
    return said == "True", int(pages)


@LINUX
@pytest.mark.parametrize("megabytes", [1, 24, 100])
def test_kept_memory_is_there_for_the_next_block(megabytes):
    done, pages = count_pages("keep_memory()", megabytes)
    assert done
    assert pages < 50


@LINUX
def test_released_memory_is_fetched_anew():
    done, pages = count_pages("keep_memory() and release_memory()", 100)
    assert done
    assert pages > 100_000


@LINUX
@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_ARENA_MAX_", "2"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")]
)
def test_who_has_set_malloc_is_not_overruled(name, value):
    done, pages = count_pages("keep_memory()", 100, **{name: value})
    assert not done
    assert pages > 100_000


def test_another_systems_memory_is_left_alone(monkeypatch):
    from xray_models import memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_memory() is False
