import ctypes
import resource

import pytest
import torch

from distilset import allocator
from distilset.allocator import kept_memory


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def touch_large(times: int = 12) -> int:
    before = faults()
    for _ in range(times):
        torch.ones(48 << 20, dtype=torch.uint8)
    return faults() - before


@pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")
def test_large_blocks_are_seldom_faulted_in_again_where_memory_is_kept():
    with kept_memory() as kept:
        assert kept
        touch_large()  # fills the heap; aligned blocks fit again only after their neighbours merge
        again = touch_large()
    assert again < touch_large() / 2


@pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")
def test_only_the_last_block_out_gives_memory_back():
    with kept_memory():
        with kept_memory():
            touch_large()
        touch_large()
        outer = touch_large()
    assert outer < touch_large() / 2


def test_nothing_happens_where_the_library_is_another(monkeypatch):
    def no_symbols(_name: None) -> object:
        return object()

    allocator._glibc.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", no_symbols)
    try:
        with kept_memory() as kept:
            assert not kept
    finally:
        allocator._glibc.cache_clear()
