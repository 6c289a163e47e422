"""Training loops that bring a sampler and the curriculum callback along.

They exist so that ``pykeen train`` can name them, which has no option for samplers or callbacks.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pykeen.training import SLCWATrainingLoop
from pykeen.training.callbacks import callback_resolver

from ..sampling import DiffusionAdaptiveNegativeSampler, HierarchicalNegativeSampler, TwoWayGANNegativeSampler
from ..sampling.base import GeneratedNegativeSampler
from .callback import CurriculumTrainingCallback

__all__ = [
    "CurriculumTrainingLoop",
    "DANSKGCTrainingLoop",
    "DANSTrainingLoop",
    "DHNSTrainingLoop",
]


class CurriculumTrainingLoop(SLCWATrainingLoop):
    """The sLCWA training loop with a generated sampler, coupled to the model by the callback ``curriculum``.

    Subclasses name the sampler, and have nothing else of their own.
    """

    #: The sampler where none is asked for
    sampler_cls: ClassVar[type[GeneratedNegativeSampler]]

    def __init__(self, **kwargs: Any) -> None:
        """Initialise the training loop.

        :param kwargs: keyword-based parameters of :class:`pykeen.training.SLCWATrainingLoop`. Without a negative
            sampler, it is the one of this class.
        """
        if kwargs.get("negative_sampler") is None:
            kwargs["negative_sampler"] = self.sampler_cls
        super().__init__(**kwargs)

    def _train(self, *args: Any, **kwargs: Any) -> list[float] | None:
        """Train the model, with the curriculum callback beside those that were asked for."""
        # size probing comes without the user's callbacks; its samplers share the coupling of the training around it
        if not kwargs.get("only_size_probing"):
            hints, parameters = kwargs.get("callbacks"), kwargs.get("callbacks_kwargs")
            made = callback_resolver.make_many(hints, parameters) if hints else []
            if not any(isinstance(callback, CurriculumTrainingCallback) for callback in made):
                made.append(CurriculumTrainingCallback())
            kwargs |= {"callbacks": made, "callbacks_kwargs": None}
        return super()._train(*args, **kwargs)


class DANSKGCTrainingLoop(CurriculumTrainingLoop):
    """The sLCWA training loop with the sampler ``dans_kgc``, coupled to the model by the callback ``curriculum``."""

    sampler_cls: ClassVar[type[GeneratedNegativeSampler]] = DiffusionAdaptiveNegativeSampler


class DANSTrainingLoop(CurriculumTrainingLoop):
    """The sLCWA training loop with the sampler ``dans``, coupled to the model by the callback ``curriculum``."""

    sampler_cls: ClassVar[type[GeneratedNegativeSampler]] = TwoWayGANNegativeSampler


class DHNSTrainingLoop(CurriculumTrainingLoop):
    """The sLCWA training loop with the sampler ``dhns``, coupled to the model by the callback ``curriculum``."""

    sampler_cls: ClassVar[type[GeneratedNegativeSampler]] = HierarchicalNegativeSampler
