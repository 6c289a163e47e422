"""Training loops that bring a sampler and the curriculum callback along.

They exist so that ``pykeen train`` can name them, which has no option for samplers or callbacks.
"""

from __future__ import annotations

from typing import Any

from pykeen.training import SLCWATrainingLoop
from pykeen.training.callbacks import TrainingCallbackHint, TrainingCallbackKwargsHint

from .callbacks import CurriculumTrainingCallback
from .sampling import DiffusionAdaptiveNegativeSampler

__all__ = [
    "DANSKGCTrainingLoop",
]


class DANSKGCTrainingLoop(SLCWATrainingLoop):
    """The sLCWA training loop with the sampler ``dans_kgc``, coupled to the model by the callback ``curriculum``."""

    def __init__(self, **kwargs: Any) -> None:
        """Initialise the training loop.

        :param kwargs: keyword-based parameters of :class:`pykeen.training.SLCWATrainingLoop`. Without a negative sampler, it
            is :class:`pykeen_dans.sampling.DiffusionAdaptiveNegativeSampler`.
        """
        if kwargs.get("negative_sampler") is None:
            kwargs["negative_sampler"] = DiffusionAdaptiveNegativeSampler
        super().__init__(**kwargs)

    def _train(
        self,
        *args: Any,
        callbacks: TrainingCallbackHint = None,
        callbacks_kwargs: TrainingCallbackKwargsHint = None,
        only_size_probing: bool = False,
        **kwargs: Any,
    ) -> list[float] | None:
        """Train the model, with the curriculum callback beside those that were asked for."""
        hints = [] if callbacks is None else [callbacks] if not isinstance(callbacks, list | tuple) else list(callbacks)
        parameters = (
            [callbacks_kwargs] * len(hints)
            if not isinstance(callbacks_kwargs, list | tuple)
            else list(callbacks_kwargs)
        )
        if not only_size_probing and not any(_is_curriculum(hint) for hint in hints):
            hints.append(CurriculumTrainingCallback())
            parameters.append(None)
        return super()._train(
            *args,
            callbacks=hints,
            callbacks_kwargs=parameters,
            only_size_probing=only_size_probing,
            **kwargs,
        )


def _is_curriculum(hint: Any) -> bool:
    """Tell whether a hint for a callback is one for the curriculum callback."""
    from pykeen.training.callbacks import callback_resolver

    if isinstance(hint, str):
        return callback_resolver.lookup(hint) is CurriculumTrainingCallback
    return hint is CurriculumTrainingCallback or isinstance(hint, CurriculumTrainingCallback)
