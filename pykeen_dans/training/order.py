"""Batches whose order, and whose random draws, do not depend on the number of worker processes.

PyKEEN's instances split the triples among workers, each of which draws by itself, so that a training with two of them
is another one than that with none. Here, the main process draws one number for each epoch. Each worker puts all triples
into the order that follows from it, and makes the batches whose turn it is, which torch's data loader takes from its
workers in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from pykeen.triples.instances import BaseBatchedSLCWAInstances, SLCWABatch
from pykeen.typing import LongTensor
from torch.utils.data import DataLoader, get_worker_info

__all__ = [
    "EpochDataLoader",
    "OrderedInstances",
]


class EpochDataLoader(DataLoader[SLCWABatch]):
    """A data loader that tells its instances a number of each epoch."""

    # docstr-coverage: inherited
    def __iter__(self) -> Any:
        instances: Any = self.dataset
        instances.epoch_seed = int(torch.randint(2**62, size=()))
        return super().__iter__()


class OrderedInstances(BaseBatchedSLCWAInstances):
    """Batches of positives in a random order, and their negatives, as PyKEEN's loop has them."""

    #: What all that is random in an epoch follows from, see :class:`EpochDataLoader`
    epoch_seed: int = 0

    def iter_triple_ids(self) -> Iterable[LongTensor]:  # type: ignore[override]
        """Iterate over the ids of the positives of this process' batches.

        :returns: of each batch, shape: (batch_size,) on the device of the triples
        """
        return (ids for _, ids in self._batches())

    def _batches(self) -> Iterator[tuple[int, LongTensor]]:
        """Iterate over the number of each batch of this process, and the ids of its positives."""
        device = self.mapped_triples.device
        random = torch.Generator(device).manual_seed(self.epoch_seed)
        # PyKEEN makes lists of numbers, which costs more than all the rest of a batch without negatives
        order = torch.randperm(len(self.mapped_triples), generator=random, device=device)
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for number, ids in enumerate(order.split(self.batch_size)):
            if number % step == first and (len(ids) == self.batch_size or not self.drop_last):
                yield number, ids

    def __iter__(self) -> Iterator[SLCWABatch]:
        """Iterate over batches, each of which is drawn by a seed of its own."""
        for number, ids in self._batches():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed((self.epoch_seed + number) % 2**63)
                batch = self[ids]  # type: ignore[index]
            yield batch
