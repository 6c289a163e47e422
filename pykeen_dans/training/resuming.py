"""Going on with a training: what is generated is kept with PyKEEN's checkpoints, and taken from there.

A checkpoint of PyKEEN holds what the optimiser tells by ``state_dict()``, and PyTorch's optimisers keep entries of
their state that belong to no parameter as they are. So the state of a coupling is added there by a hook, when it is
asked for: it is in the one file that has the weights, belongs to the same moment, and needs no file of its own, which
could be missing, be half written, or belong to another training. Whoever saves ``optimizer.state_dict()`` by other
means has it, too, and whoever reads such a file without this package takes no notice of it.
"""

from __future__ import annotations

import pathlib
import weakref
from collections.abc import Mapping
from typing import IO, Any

import torch
from pykeen.training import SLCWATrainingLoop
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ..engine.coupling import Coupling
from ..sampling.base import GeneratedNegativeSampler
from ..utils.frames import is_continued, training_triples
from ..utils.storage import replacing
from .watch import WatchedTrainingLoop

__all__ = [
    "ResumableTrainingLoop",
    "coupling_in_use",
    "keep_with",
    "take_saved",
]

#: The entry of the optimiser's state
_KEY = "pykeen_dans"

_kept: weakref.WeakKeyDictionary[Optimizer, list[RemovableHandle]] = weakref.WeakKeyDictionary()


def keep_with(optimizer: Optimizer, coupling: Coupling) -> None:
    """Let an optimiser save, and restore, the state of a coupling with its own.

    :param optimizer: the optimiser, which keeps one coupling at a time
    :param coupling: the coupling
    """

    def add(_: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        if coupling.engine is None:
            return state
        return {**state, "state": {**state["state"], _KEY: coupling.state_dict()}}

    def restore(optimizer: Optimizer) -> None:
        if (saved := take_saved(optimizer)) is not None:
            coupling.restore(saved)

    for handle in _kept.get(optimizer, []):
        handle.remove()
    _kept[optimizer] = [
        optimizer.register_state_dict_post_hook(add),
        optimizer.register_load_state_dict_post_hook(restore),
    ]


def take_saved(optimizer: Optimizer) -> Mapping[str, Any] | None:
    """Take the state of a coupling out of an optimiser that has been loaded.

    :param optimizer: the optimiser

    :returns: the state, or None where there is none
    """
    states: dict[Any, Any] = optimizer.state
    return states.pop(_KEY, None)


def coupling_in_use(training_loop: SLCWATrainingLoop) -> Coupling | None:
    """Find the coupling of an earlier training of the same loop, where the training under way continues it.

    :param training_loop: the training loop

    :returns: the coupling, or None where the training begins anew, or has other triples
    """
    sampler = training_loop.negative_sampler
    coupling = (
        sampler.coupling
        if isinstance(sampler, GeneratedNegativeSampler)
        else (training_loop.negative_sampler_kwargs or {}).get("coupling")
    )
    if not is_continued() or not isinstance(coupling, Coupling) or coupling.engine is None:
        return None
    triples = training_triples()
    is_same = triples is not None and torch.equal(triples, coupling.engine.graph.mapped_triples)
    return coupling if is_same else None


class ResumableTrainingLoop(WatchedTrainingLoop):
    """A training loop whose checkpoints are written in one go.

    PyKEEN writes into the file of the last checkpoint, so that there is none at all if the process ends meanwhile.
    """

    # docstr-coverage: inherited
    def _save_state(self, path: IO[bytes] | str | pathlib.Path, *args: Any, **kwargs: Any) -> None:
        if not isinstance(path, str | pathlib.Path):
            super()._save_state(path, *args, **kwargs)
            return
        with replacing(pathlib.Path(path)) as temporary:
            super()._save_state(temporary, *args, **kwargs)
