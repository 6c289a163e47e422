"""Ways to train that can be compared: a sampler or a training loop, with the rest of the configuration around it."""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from class_resolver import ClassResolver
from pykeen.sampling import negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop, training_loop_resolver

from ..experiments import load_recipe, recipe_names
from ..sampling.base import GeneratedNegativeSampler
from ..training.shared_negatives import SharedNegativesTrainingLoop
from ..utils.validation import keywords_of, unknown_name, validate_keywords
from .data import SHARED_RECIPE, plain_name

__all__ = [
    "Base",
    "Way",
    "base_of",
    "configure",
    "parse_way",
]

_SAMPLER, _LOOP = "sampler", "loop"
_RESOLVERS: Mapping[str, ClassResolver[Any]] = {_LOOP: training_loop_resolver, _SAMPLER: negative_sampler_resolver}
#: The settings of pairs of data set and model that have no recipe. The loss is that of the loops, for all of them.
_DEFAULTS: Mapping[str, Any] = {
    "dataset_kwargs": {"create_inverse_triples": True},
    "model_kwargs": {"embedding_dim": 64},
    "loss": "crossentropy",
    "optimizer": "adam",
    "optimizer_kwargs": {"lr": 0.01},
    "negative_sampler_kwargs": {"num_negs_per_pos": 8},
    "training_kwargs": {"num_epochs": 20, "batch_size": 256},
}


@dataclasses.dataclass(frozen=True)
class Way:
    """A sampler or a training loop, and its options.

    :param label: how tables call it
    :param kind: ``"sampler"`` or ``"loop"``
    :param name: its name
    :param options: its keyword-based parameters
    """

    label: str
    kind: str
    name: str
    options: dict[str, Any]

    @property
    def loop(self) -> type[Any]:
        """The training loop."""
        return training_loop_resolver.lookup("slcwa" if self.kind == _SAMPLER else self.name)

    @property
    def has_softmax(self) -> bool:
        """Whether it has the loss over all entities: of shared negatives, or of no sample at all."""
        return issubclass(self.loop, SharedNegativesTrainingLoop) or not issubclass(self.loop, SLCWATrainingLoop)


def parse_way(text: str) -> Way:
    """Read what is to be compared.

    :param text: the name of a loop or of a sampler, then any options, as in ``shared-negatives,num_shared=64``. A name
        of both is that of the loop, unless it begins with ``sampler:``.

    :returns: the way

    :raises ValueError: if there is none of this name, or no such option
    """
    # values may have commas of their own, as lists do
    head, *parts = re.split(r",(?=\w+=)", text)
    kind, _, name = head.rpartition(":")
    if kind and kind not in _RESOLVERS:
        raise unknown_name("the prefix", kind, list(_RESOLVERS))
    for each in [kind] if kind else list(_RESOLVERS):
        resolver = _RESOLVERS[each]
        if resolver.normalize(name) in {*resolver.lookup_dict, *map(resolver.normalize, resolver.synonyms)}:
            options = dict(_option(part) for part in parts)
            validate_keywords(each, resolver, name, options)
            return Way(label=text, kind=each, name=name, options=options)
    choices = {"shared-negatives", "dans-kgc", "dans_kgc"}
    for each in [kind] if kind else list(_RESOLVERS):
        choices |= set(_RESOLVERS[each].lookup_dict)
    raise unknown_name("WAYS", name, choices)


def _option(text: str) -> tuple[str, Any]:
    """Read an option, whose value is JSON, or else a text."""
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


@dataclasses.dataclass(frozen=True)
class Base:
    """A configuration to begin with: one for each kind of loss, which may be the same.

    :param model: the name of the model
    :param sampled: the recipe of samplers, its name and its pipeline
    :param softmax: the recipe of the loss over all entities
    """

    model: str
    sampled: tuple[str | None, Mapping[str, Any]]
    softmax: tuple[str | None, Mapping[str, Any]]

    @property
    def dataset(self) -> str | None:
        """The data set of the recipe, None without a recipe."""
        return self.sampled[1].get("dataset")

    @property
    def inverse(self) -> bool:
        """Whether training has inverse triples."""
        return bool(self.sampled[1]["dataset_kwargs"]["create_inverse_triples"])


def base_of(recipe: str | None, *, dataset: str | None = None, model: str | None = None) -> Base:
    """Find the configuration to begin with.

    :param recipe: the name or the path of a recipe, default: that of the data set and the model, where there is one
    :param dataset: the name of the data set
    :param model: the name of the model

    :returns: the base. Where there are recipes for both kinds of loss, each has the one that was tuned for it.

    :raises ValueError: if there is no such recipe
    """
    if recipe is None:
        name = f"{plain_name(dataset or '')}-{(model or '').lower()}"
        if name not in recipe_names():
            pair = (None, {**_DEFAULTS, "model": model})
            return Base(str(model), pair, pair)
        recipe = name
    path = pathlib.Path(recipe)
    if path.suffix == ".json":
        pipeline = json.loads(path.read_text(encoding="utf-8"))["pipeline"]
        return Base(pipeline["model"], (recipe, pipeline), (recipe, pipeline))
    stem = recipe.removesuffix(SHARED_RECIPE)
    # the one that was asked for is an error where it does not exist
    load_recipe(recipe)
    names = [each if each in recipe_names() else recipe for each in (stem, f"{stem}{SHARED_RECIPE}")]
    sampled, softmax = ((each, load_recipe(each)["pipeline"]) for each in names)
    return Base(sampled[1]["model"], sampled, softmax)


def configure(
    way: Way,
    base: Base,
    *,
    loss: str | None = None,
    epochs: int | None = None,
    num_negatives: int | None = None,
    embedding_dim: int | None = None,
) -> tuple[str | None, dict[str, Any]]:
    """Make the configuration of a way.

    :param way: the way
    :param base: what to begin with
    :param loss: the loss of all ways, default: the recipe's, and cross entropy for loops over all entities
    :param epochs: the number of epochs, default: the recipe's
    :param num_negatives: the number of negatives for each positive, default: the recipe's
    :param embedding_dim: the dimension of embeddings, default: the recipe's

    :returns: the name of the recipe, and the keyword arguments of ``pykeen.pipeline.pipeline``
    """
    name, recipe = base.softmax if way.has_softmax else base.sampled
    pipeline: dict[str, Any] = copy.deepcopy(dict(recipe))
    given = pipeline.pop("negative_sampler_kwargs", None) or {}
    of_loop = pipeline.pop("training_loop_kwargs", None) or {}
    pipeline.pop("negative_sampler", None)
    training = pipeline["training_kwargs"]
    for key in ("callbacks", "callbacks_kwargs"):
        training.pop(key, None)
    pipeline["training_loop"] = "slcwa" if way.kind == _SAMPLER else way.name
    wanted = loss or ("crossentropy" if way.has_softmax else pipeline.get("loss"))
    if wanted != pipeline.get("loss"):
        pipeline.pop("loss_kwargs", None)
        pipeline["loss"] = wanted
    if way.kind == _SAMPLER:
        pipeline |= _sampler(way, given, num_negatives)
        if issubclass(negative_sampler_resolver.lookup(way.name), GeneratedNegativeSampler):
            training["callbacks"] = "curriculum"
    elif options := _accepted(way.loop, of_loop) | way.options:
        pipeline["training_loop_kwargs"] = options
    if way.kind == _LOOP and not way.has_softmax:
        # a loop whose sampler has negatives of each positive's own
        pipeline["negative_sampler_kwargs"] = {"num_negs_per_pos": num_negatives or given.get("num_negs_per_pos")}
    if epochs is not None:
        training["num_epochs"] = epochs
    if embedding_dim is not None:
        pipeline["model_kwargs"] = {**pipeline.get("model_kwargs", {}), "embedding_dim": embedding_dim}
    return name, pipeline


def _sampler(way: Way, given: Mapping[str, Any], num_negatives: int | None) -> dict[str, Any]:
    """Make what a configuration says of its sampler: as many negatives and the sides as in the recipe, no more."""
    cls = negative_sampler_resolver.lookup(way.name)
    kept = {key: given[key] for key in ("num_negs_per_pos", "corruption_scheme") if key in given}
    kept = {"num_negs_per_pos": _DEFAULTS["negative_sampler_kwargs"]["num_negs_per_pos"]} | kept
    if num_negatives is not None:
        kept["num_negs_per_pos"] = num_negatives
    return {"negative_sampler": way.name, "negative_sampler_kwargs": _accepted(cls, kept) | way.options}


def _accepted(cls: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a class does not take, as Bernoulli sampling does not take the sides."""
    return {key: value for key, value in options.items() if key in keywords_of(cls)}
