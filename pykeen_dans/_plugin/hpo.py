"""Samplers in studies of hyper-parameters over the training loops of this package.

``hpo_pipeline`` of PyKEEN 1.11, and the objective of its trials, ask whether ``training_loop is SLCWATrainingLoop``,
where its pipeline asks ``issubclass``. So a study over a subclass drops the sampler and its ranges, trains with
defaults, and saves the options that it was given as if they had been used. There is no place to say otherwise from
outside, so both are wrapped here, for the loops of this package alone:

- ``hpo_pipeline`` moves the name of the sampler to where PyKEEN leaves it alone, the options of the training loop.
- The objective suggests options of the sampler for each trial, as PyKEEN does for its own loop, and hands them on.

Whatever is saved is then what was done, and replicates are those of the best trial.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Mapping
from typing import Any

__all__ = [
    "wrap_hpo",
]

#: What has no effect where negatives are shared, and need not be searched
_WITHOUT_EFFECT = {"num_negs_per_pos", "share"}


def _our_loop(training_loop: Any) -> type[Any] | None:
    """Look up a training loop, None where it is none of ours."""
    from pykeen.training import training_loop_resolver

    from ..training.loops import CurriculumTrainingLoop
    from ..training.shared_negatives import SharedNegativesTrainingLoop

    cls = training_loop_resolver.lookup(training_loop)
    return cls if issubclass(cls, CurriculumTrainingLoop | SharedNegativesTrainingLoop) else None


def _move_sampler(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the sampler of a study to where it is used.

    :param arguments: those of ``hpo_pipeline``

    :returns: the same, where the name of the sampler is an option of the training loop, and its options are not
    """
    from pykeen.sampling import negative_sampler_resolver

    of_loop = dict(arguments.get("training_loop_kwargs") or {})
    of_sampler = {
        **(of_loop.pop("negative_sampler_kwargs", None) or {}),
        **(arguments.get("negative_sampler_kwargs") or {}),
    }
    sampler = arguments.get("negative_sampler") or of_loop.get("negative_sampler")
    if sampler is not None:
        # by name, since it is saved as JSON
        of_loop["negative_sampler"] = negative_sampler_resolver.normalize_cls(negative_sampler_resolver.lookup(sampler))
    return {
        **arguments,
        "negative_sampler": None,
        "negative_sampler_kwargs": of_sampler,
        "training_loop_kwargs": of_loop,
    }


def _suggest(objective: Any, trial: Any) -> Any:
    """Choose the options of the sampler in one trial.

    :param objective: the objective of a study
    :param trial: the trial

    :returns: the objective of this trial

    :raises ValueError: if a range is none of an option of the sampler
    """
    from pykeen.hpo.hpo import _get_kwargs
    from pykeen.sampling import negative_sampler_resolver

    from ..training.shared_negatives import SharedNegativesTrainingLoop
    from ..utils.validation import validate_keywords

    loop = _our_loop(objective.training_loop)
    if loop is None:
        return objective
    of_loop = dict(objective.training_loop_kwargs or {})
    sampler = of_loop.get("negative_sampler") or loop.sampler_cls
    ranges = objective.negative_sampler_kwargs_ranges or {}
    defaults: Mapping[str, Any] = {}
    if sampler is None:
        if ranges:
            raise ValueError(
                f"negative_sampler_kwargs_ranges={dict(ranges)!r} has nothing to search: {loop.__name__} has no "
                f"sampler; give a negative_sampler that generates, e.g. 'dans_kgc', or leave them out."
            )
    else:
        cls = validate_keywords("negative_sampler", negative_sampler_resolver, sampler, ranges)
        useless = _WITHOUT_EFFECT if issubclass(loop, SharedNegativesTrainingLoop) else set()
        defaults = {name: found for name, found in cls.hpo_default.items() if name not in useless}
    of_loop["negative_sampler_kwargs"] = _get_kwargs(
        trial=trial,
        prefix="negative_sampler",
        default_kwargs_ranges=defaults,
        kwargs=objective.negative_sampler_kwargs,
        kwargs_ranges=ranges,
    )
    return dataclasses.replace(objective, training_loop_kwargs=of_loop)


def wrap_hpo() -> None:
    """Let studies over our training loops have their sampler. Others are not touched."""
    package, module = importlib.import_module("pykeen.hpo"), importlib.import_module("pykeen.hpo.hpo")
    study, trial_of = module.hpo_pipeline, module.Objective.__call__

    @functools.wraps(study)
    def hpo_pipeline(**kwargs: Any) -> Any:
        return study(**(kwargs if _our_loop(kwargs.get("training_loop")) is None else _move_sampler(kwargs)))

    @functools.wraps(trial_of)
    def call(self: Any, trial: Any) -> Any:
        return trial_of(_suggest(self, trial), trial)

    # whoever has imported the function by name before PyKEEN's plugins were loaded has imported nothing at all
    package.hpo_pipeline = module.hpo_pipeline = hpo_pipeline  # type: ignore[attr-defined]
    module.Objective.__call__ = call
