"""Registration with PyKEEN's resolvers.

PyKEEN loads the data sets of this package through the entry point group ``pykeen.datasets``. Loading any of them
imports this package, and importing this package calls :func:`register`. So whoever uses PyKEEN can name the samplers,
the callback, the training loop and the filterer of this package, with nothing else to import.

This happens while PyKEEN itself is being imported, with different modules half imported, depending on where the user
began. Hence there are two stages:

1. Samplers and filterers are registered immediately. Their modules may import, at module level, from
   :mod:`pykeen.sampling`, :mod:`pykeen.triples`, :mod:`pykeen.typing`, :mod:`pykeen.utils`, :mod:`pykeen.constants` and
   :mod:`pykeen.datasets.base`. Everything else of PyKEEN has to be imported inside of functions.
2. Callbacks and training loops are registered when the import of :mod:`pykeen.training` has come to its end, which is
   immediately, if it has been imported before. Their modules may import :mod:`pykeen.training`, and all that it
   imports, but neither :mod:`pykeen.pipeline` nor :mod:`pykeen.hpo`. Representations wait for :mod:`pykeen.nn` in the
   same way.
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

from class_resolver import ClassResolver

from .after_import import call_after_import, is_importing
from .hpo import wrap_hpo

__all__ = [
    "register",
]

logger = logging.getLogger(__name__)

#: The samplers: the name of the class, and further names for it
SAMPLERS: Sequence[tuple[str, Sequence[str]]] = (
    ("DiffusionAdaptiveNegativeSampler", ("dans_kgc", "dans-kgc")),
    ("TwoWayGANNegativeSampler", ("dans",)),
    ("HierarchicalNegativeSampler", ("dhns",)),
    # the name gives "fixed"
    ("FixedNegativeSampler", ()),
)

#: What belongs to :mod:`pykeen.training`: the name of the resolver there, the module here, the name of the class
TRAINING: Sequence[tuple[str, str, str]] = (
    ("callback_resolver", "pykeen_dans.training.callback", "CurriculumTrainingCallback"),
    # the name gives "danskgc", which is also what "dans-kgc" and "dans_kgc" are normalized to
    ("training_loop_resolver", "pykeen_dans.training.loops", "DANSKGCTrainingLoop"),
    ("training_loop_resolver", "pykeen_dans.training.loops", "DANSTrainingLoop"),
    ("training_loop_resolver", "pykeen_dans.training.loops", "DHNSTrainingLoop"),
    ("training_loop_resolver", "pykeen_dans.training.loops", "CurriculumTrainingLoop"),
    # the name gives "sharednegatives", which is also what "shared-negatives" is normalized to
    ("training_loop_resolver", "pykeen_dans.training.shared_negatives", "SharedNegativesTrainingLoop"),
)

#: What belongs to :mod:`pykeen.nn`, in the same form
REPRESENTATIONS: Sequence[tuple[str, str, str]] = (
    ("representation_resolver", "pykeen_dans.multimodal.representation", "MultimodalRepresentation"),
)


def _add(resolver: ClassResolver[Any], cls: type[Any], synonyms: Sequence[str] = ()) -> None:
    """Register a class with a resolver, unless it is registered already.

    A name that is taken stays with its owner: it must not be impossible to import PyKEEN because of a clash.

    :param resolver: The resolver.
    :param cls: The class.
    :param synonyms: Further names of the class.
    """
    for name in dict.fromkeys([resolver.normalize_cls(cls), *map(resolver.normalize, synonyms)]):
        owner = resolver.lookup_dict.get(name, resolver.synonyms.get(name, cls))
        if owner is not cls:
            logger.warning(
                "The name %r belongs to %s.%s already, so it does not refer to %s.%s. Pass the class instead.",
                name,
                owner.__module__,
                owner.__qualname__,
                cls.__module__,
                cls.__qualname__,
            )
    resolver.register(cls, synonyms=synonyms, raise_on_conflict=False)


def _register_late(package: str, entries: Sequence[tuple[str, str, str]]) -> None:
    """Register a part of the second stage, once a package of PyKEEN is complete.

    :param package: The package.
    :param entries: What belongs to it.
    """
    for module in [name for name in sys.modules if name.startswith(f"{__name__.partition('.')[0]}.")]:
        if is_importing(module):
            # the user has begun with this module of ours, and it has caused the import of PyKEEN
            call_after_import(module, functools.partial(_register_late, package, entries))
            return
    imported = importlib.import_module(package)
    for resolver_name, module, name in entries:
        try:
            _add(getattr(imported, resolver_name), getattr(importlib.import_module(module), name))
        except (ImportError, AttributeError) as error:
            # the same policy that class-resolver has for plugins: PyKEEN must remain importable without them
            logger.warning("could not register %s.%s: %s", module, name, error)


def register() -> None:
    """Register everything with PyKEEN's resolvers. Calling it again changes nothing."""
    # Without this, an import that begins with `pykeen_dans.datasets` would be half done when PyKEEN loads its plugins.
    importlib.import_module("pykeen.datasets")

    sampling = importlib.import_module("pykeen_dans.sampling")
    filtering = importlib.import_module("pykeen_dans.sampling.filtering")
    negative_sampler_resolver = importlib.import_module("pykeen.sampling").negative_sampler_resolver
    filterer_resolver = importlib.import_module("pykeen.sampling.filtering").filterer_resolver

    # everything is imported before anything is registered, so that an error leaves nothing half registered
    samplers = [(getattr(sampling, name), synonyms) for name, synonyms in SAMPLERS]
    for cls, synonyms in samplers:
        _add(negative_sampler_resolver, cls, synonyms)
    _add(filterer_resolver, filtering.ExactFilterer)
    metric = importlib.import_module("pykeen_dans.evaluation.metrics").NDCGAtK
    _add(importlib.import_module("pykeen.metrics.ranking").rank_based_metric_resolver, metric, metric.synonyms)

    # studies of hyper-parameters are rare, and bring much along, so they are not imported for this
    call_after_import("pykeen.hpo", wrap_hpo)
    for package, entries in (("pykeen.nn", REPRESENTATIONS), ("pykeen.training", TRAINING)):
        call_after_import(package, functools.partial(_register_late, package, entries))
