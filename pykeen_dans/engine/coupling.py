"""How the sampler in the data loader and the callback in the training loop find each other.

PyKEEN makes the sampler inside of the data loader, anew for each loader, and gives it nothing but the triples and its
keyword arguments. The callback is registered before that, so it puts a :class:`Coupling` among these keyword arguments;
whichever sampler comes first brings the engine to life, all others share it. Samplers without a callback find the
engine of an equal one among the last few that were made, which this module keeps.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pykeen.sampling import NegativeSampler

from ..utils.frames import shows_progress
from .curriculum import Curriculum, CurriculumState
from .engine import GenerationEngine
from .settings import default_fit_steps
from .state import engine_state, restore_engine

__all__ = [
    "Coupling",
    "alone_engine",
    "take_over",
]

logger = logging.getLogger(__name__)

#: The version of what is kept with checkpoints
_VERSION = 1
#: The number of engines without a model that are kept for samplers to come
_MAX_ALONE = 2
_alone: collections.OrderedDict[str, GenerationEngine] = collections.OrderedDict()


class Coupling:
    """A place where a sampler leaves its engine for the callback.

    Samplers that are made later, as those for size probing or for a validation loss, get the engine of the first one: a
    query that it does not know is answered uniformly.

    It is also what is kept with checkpoints, from which a training is resumed.

    :param progress: the progress of training at which it begins, more than 0 where a training is resumed
    :param saved: what another coupling told by :meth:`state_dict`, where a training is resumed
    :param device: the device of the model
    :param begin: where a training is resumed, is called with an engine for which nothing was saved that fits
    """

    def __init__(
        self,
        progress: float = 0.0,
        *,
        saved: Mapping[str, Any] | None = None,
        device: torch.device | None = None,
        begin: Callable[[GenerationEngine], None] | None = None,
    ) -> None:
        """Initialise the coupling."""
        self.progress = progress
        self.saved = saved
        self.device = device or torch.device("cpu")
        self.begin = begin
        self.engine: GenerationEngine | None = None
        self.curriculum: Curriculum | None = None
        #: the share of generated negatives that the sampler wants
        self.share = 0.0
        self.state: CurriculumState | None = None
        #: the first sampler, for whoever wants to look at what it draws
        self.sampler: NegativeSampler | None = None
        #: the seconds that updates may take, below 0 where one has taken more than there were
        self.allowance = 0.0
        #: whether the model can score the vectors of the engine's space
        self.scores_vectors = False

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what is alive: a result on disk, or a worker process, needs the moment of training alone."""
        return {**self.__dict__, "engine": None, "sampler": None, "saved": None, "begin": None}

    def engine_for(
        self, make: Callable[[], GenerationEngine], *, curriculum: Curriculum, share: float
    ) -> GenerationEngine:
        """Get the engine, made on first use.

        :param make: makes the engine
        :param curriculum: the curriculum of the sampler that asks
        :param share: the share of generated negatives that it wants

        :returns: the engine
        """
        if self.engine is None:
            self.engine = make()
            self.curriculum = curriculum
            self.share = share
            # now, rather than by the first batch or the first refresh: workers are forked later, and epochs are timed
            self.engine.prepare()
            if self.begin is not None and not self.restore(self.saved):
                # of the other one, a part may have been changed
                self.engine = make()
                self.engine.prepare()
                self.begin(self.engine)
            self.saved = None
            self.advance(self.progress)
        return self.engine

    def restore(self, saved: Mapping[str, Any] | None) -> bool:
        """Go on from what was saved, and warn where this is not possible.

        :param saved: what another coupling told by :meth:`state_dict`, None for nothing

        :returns: whether it was possible
        """
        reason = "nothing of them was kept"
        if saved is not None:
            try:
                self.load_state_dict(saved)
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                reason = f"what was kept of them cannot be used: {error}"
            else:
                return True
        logger.warning(
            "The training goes on without the negatives that it has generated before (%s); the generator begins anew.",
            reason,
        )
        return False

    def state_dict(self) -> dict[str, Any]:
        """Tell all that a training which is resumed needs.

        :raises ValueError: if no sampler has come yet
        """
        return {
            "version": _VERSION,
            "progress": self.progress,
            "allowance": self.allowance,
            "scores_vectors": self.scores_vectors,
            "engine": engine_state(self._made()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another coupling was, but for the progress, which follows from the epoch.

        :param state: what its :meth:`state_dict` told

        :raises ValueError: if it is of another version, or if no sampler has come yet
        """
        if state["version"] != _VERSION:
            raise ValueError(f"its version is {state['version']}, and {_VERSION} is known")
        restore_engine(self._made(), state["engine"], device=self.device)
        self.allowance, self.scores_vectors = state["allowance"], state["scores_vectors"]

    def _made(self) -> GenerationEngine:
        if self.engine is None:
            raise ValueError("coupling has no engine yet: make a sampler with this coupling first.")
        return self.engine

    def advance(self, progress: float) -> CurriculumState:
        """Move the curriculum.

        :param progress: the progress of training in [0, 1]

        :returns: what the curriculum asks for from now on

        :raises ValueError: if no sampler has come yet
        """
        engine = self._made()
        assert self.curriculum is not None
        self.progress = progress
        self.state = engine.state(self.curriculum, progress)
        return self.state


def alone_engine(key: str, make: Callable[[], GenerationEngine], *, fit_steps: int | None) -> GenerationEngine:
    """Get the engine of a sampler that has no callback; equal samplers of equal triples share it.

    Data loaders come and go, with size probing several within a second. The last few engines are kept, so that none of
    this fits a generator twice.

    :param key: a hash of the triples and of all options
    :param make: makes the engine
    :param fit_steps: the number of training steps of its generator, before its bank is filled, None for
        :func:`~pykeen_dans.engine.settings.default_fit_steps`

    :returns: the engine
    """
    if key not in _alone:
        engine = make()
        if fit_steps is None:
            fit_steps = default_fit_steps(len(engine.index.answers))
        engine.prepare_alone(fit_steps=fit_steps, use_tqdm=shows_progress())
        _alone[key] = engine
        while len(_alone) > _MAX_ALONE:
            _alone.popitem(last=False)
    _alone.move_to_end(key)
    return _alone[key]


def take_over(engine: GenerationEngine) -> GenerationEngine:
    """Keep an engine for one sampler, so that no later sampler gets what a callback has made of it.

    :param engine: an engine that may have come from :func:`alone_engine`

    :returns: the engine
    """
    for key in [key for key, kept in _alone.items() if kept is engine]:
        del _alone[key]
    return engine
