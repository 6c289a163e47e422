"""Generated negative samples for PyKEEN.

There is no need to import this package: once it is installed, PyKEEN finds it.

>>> from pykeen.pipeline import pipeline
>>> result = pipeline(dataset="nations", model="ComplEx", negative_sampler="dans_kgc")  # doctest: +SKIP

The public names below are imported when they are used for the first time, since this package is imported together with
PyKEEN.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import VERSION as __version__

if TYPE_CHECKING:
    from .datasets import DB15K, MKGW, MKGY, NELL995, Family
    from .inspection import bank_of, describe, negatives_frame, sampler_of
    from .sampling import (
        DiffusionAdaptiveNegativeSampler,
        FixedNegativeSampler,
        HierarchicalNegativeSampler,
        TwoWayGANNegativeSampler,
    )
    from .sampling.filtering import ExactFilterer
    from .training.callback import CurriculumTrainingCallback
    from .training.loops import CurriculumTrainingLoop, DANSKGCTrainingLoop, DANSTrainingLoop, DHNSTrainingLoop
    from .training.shared_negatives import SharedNegativesTrainingLoop

__all__ = [
    # Samplers
    "DiffusionAdaptiveNegativeSampler",
    "FixedNegativeSampler",
    "HierarchicalNegativeSampler",
    "ExactFilterer",
    "TwoWayGANNegativeSampler",
    # Training
    "CurriculumTrainingCallback",
    "CurriculumTrainingLoop",
    "DANSKGCTrainingLoop",
    "DANSTrainingLoop",
    "DHNSTrainingLoop",
    "SharedNegativesTrainingLoop",
    # Data sets
    "DB15K",
    "Family",
    "MKGW",
    "MKGY",
    "NELL995",
    # A look at negatives
    "bank_of",
    "describe",
    "negatives_frame",
    "sampler_of",
    #
    "__version__",
]

#: Where the public names come from
_MODULES = {
    "CurriculumTrainingCallback": "training.callback",
    "CurriculumTrainingLoop": "training.loops",
    "DANSKGCTrainingLoop": "training.loops",
    "DANSTrainingLoop": "training.loops",
    "DB15K": "datasets",
    "DHNSTrainingLoop": "training.loops",
    "DiffusionAdaptiveNegativeSampler": "sampling",
    "ExactFilterer": "sampling.filtering",
    "Family": "datasets",
    "FixedNegativeSampler": "sampling",
    "HierarchicalNegativeSampler": "sampling",
    "MKGW": "datasets",
    "MKGY": "datasets",
    "NELL995": "datasets",
    "SharedNegativesTrainingLoop": "training.shared_negatives",
    "TwoWayGANNegativeSampler": "sampling",
    "bank_of": "inspection",
    "describe": "inspection",
    "negatives_frame": "inspection",
    "sampler_of": "inspection",
}


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, whether imported yet or not."""
    return sorted({*globals(), *_MODULES})


def _register() -> None:
    """Register with PyKEEN, as the last step of the import."""
    from ._plugin.register import register

    register()


_register()
