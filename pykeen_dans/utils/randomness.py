"""Computations that come out the same, whatever the caller's random state and the machine's number of cores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = [
    "one_thread",
    "single_precision",
    "reproducible",
]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread for a while.

    The order of sums depends on the number of threads. One thread is also quicker for small tensors: several would wait
    for each other where cores are busy.

    :yields: nothing
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


@contextlib.contextmanager
def single_precision() -> Iterator[None]:
    """Let torch make numbers of single precision for a while, which is what everything is generated in.

    Nothing is done where that is so anyway. Otherwise it holds for all threads.

    :yields: nothing
    """
    dtype = torch.get_default_dtype()
    if dtype == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed torch's generator of the CPU and use one thread for a while, and give both back as they were.

    Generators of other devices are left alone, so that nothing is initialised on a GPU, not even in a forked process.
    All threads share the generator: what others draw meanwhile changes what is drawn here.

    :param seed: the seed

    :yields: nothing
    """
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.default_generator.manual_seed(seed)
        yield
