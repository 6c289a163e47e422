"""Batches whose order, and whose random draws, do not depend on the number of worker processes.

PyKEEN's instances split the triples among workers, each of which draws by itself, so that a training with two of them
is another one than that with none. Here, the main process draws one number for each epoch, from which all else follows.
Each worker makes the batches whose turn it is, and torch's data loader takes them from its workers in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from pykeen.triples import CoreTriplesFactory
from pykeen.triples.instances import BaseBatchedSLCWAInstances, SLCWABatch, SubGraphSLCWAInstances
from torch.utils.data import DataLoader, get_worker_info

from ..utils.validation import validate_choice
from .resuming import ResumableTrainingLoop

__all__ = [
    "OrderedInstances",
    "OrderedSubGraphInstances",
    "OrderedTrainingLoop",
]


class _EpochDataLoader(DataLoader[SLCWABatch]):
    """A data loader that tells its instances a number of each epoch."""

    def __iter__(self) -> Any:
        instances: Any = self.dataset
        instances.epoch_seed = int(torch.randint(2**62, size=()))
        return super().__iter__()


class OrderedInstances(BaseBatchedSLCWAInstances):
    """Batches of positives in a random order, and their negatives, as PyKEEN's loop has them."""

    #: What all that is random in an epoch follows from
    epoch_seed: int = 0

    def chooser(self) -> Callable[[int], Any]:
        """Choose the positives of an epoch.

        :returns: what tells the ids of the positives of a batch by its number, on the device of the triples
        """
        device = self.mapped_triples.device
        random = torch.Generator(device).manual_seed(self.epoch_seed)
        # PyKEEN makes lists of numbers, which costs more than all the rest of a batch without negatives
        order = torch.randperm(len(self.mapped_triples), generator=random, device=device)
        return order.split(self.batch_size).__getitem__

    def _turns(self) -> range:
        """Tell the numbers of the batches of this process."""
        worker = get_worker_info()
        return range(len(self)) if worker is None else range(worker.id, len(self), worker.num_workers)

    # docstr-coverage: inherited
    def iter_triple_ids(self) -> Iterable[Any]:  # noqa: D102
        return map(self.chooser(), self._turns())

    def __iter__(self) -> Iterator[SLCWABatch]:
        """Iterate over batches, each of which is drawn by a seed of its own."""
        choose = self.chooser()
        for number in self._turns():
            with torch.random.fork_rng(devices=[]):
                # that of the CPU alone, since torch.manual_seed would seed a GPU, too, for good
                torch.default_generator.manual_seed(self.epoch_seed + number)
                batch = self[choose(number)]
            yield batch


class OrderedSubGraphInstances(OrderedInstances, SubGraphSLCWAInstances):
    """The same for batches of positives that are coherent subgraphs."""

    def chooser(self) -> Callable[[int], Any]:
        """Draw each subgraph when its turn has come."""
        return lambda _: self.subgraph_sample()


class OrderedTrainingLoop(ResumableTrainingLoop):
    """A training loop that sees all triples, and the same batches, with any number of worker processes."""

    #: The instances by PyKEEN's name of how their positives are chosen
    instances: ClassVar[Mapping[str | None, type[OrderedInstances]]] = {
        None: OrderedInstances,
        "schlichtkrull": OrderedSubGraphInstances,
    }

    def _sampler_of_instances(self) -> dict[str, Any]:
        """Tell which negatives batches have, as keywords of the instances."""
        return {"negative_sampler": self.negative_sampler, "negative_sampler_kwargs": self.negative_sampler_kwargs}

    # docstr-coverage: inherited
    def _create_training_data_loader(
        self,
        triples_factory: CoreTriplesFactory,
        *,
        sampler: str | None,
        batch_size: int,
        drop_last: bool,
        shuffle: bool = True,
        **kwargs: Any,
    ) -> DataLoader[SLCWABatch]:
        validate_choice("sampler", str(sampler), [str(name) for name in self.instances])
        made = self.instances[sampler].from_triples_factory(
            triples_factory,
            batch_size=batch_size,
            drop_last=drop_last,
            loss_weighter=self.loss_weighter,
            loss_weighter_kwargs=self.loss_weighter_kwargs,
            **self._sampler_of_instances(),
            # PyKEEN warns of True, which it passes
            **({} if shuffle else {"shuffle": False}),
        )
        # automatic batching is disabled
        return _EpochDataLoader(dataset=made, batch_size=None, batch_sampler=None, **kwargs)
