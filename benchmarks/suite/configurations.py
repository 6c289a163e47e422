"""Configurations: PyKEEN's JSON, made of a recipe and of what one row changes in it.

The recipe is one that the package ships, which was tuned for uniform negatives. A pair of data set and model without
one has a default recipe, which was tuned for nothing at all: the customary settings of the model (:data:`MODELS`), and
epochs and batch size by the data set (:data:`DATASETS`). Rows that come of it say so.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

from class_resolver import ClassResolver
from pykeen.losses import loss_resolver
from pykeen.models import model_resolver
from pykeen.regularizers import regularizer_resolver
from pykeen.sampling import negative_sampler_resolver
from pykeen.training.callbacks import callback_resolver

from pykeen_dans.experiments import load_recipe, recipe_names

from .rows import digest
from .variants import AS_SHIPPED, VARIANTS

__all__ = [
    "DATASETS",
    "LOSSES",
    "MODELS",
    "Setting",
    "base_recipe",
    "configuration",
    "configuration_to_run",
    "is_present",
    "options_digest",
    "shared_digest",
    "spelled_out",
]

#: data set, as in the names of recipes -> its title, and the epochs and batch size of default recipes
DATASETS: dict[str, dict[str, Any]] = {
    "nations": {"title": "Nations", "epochs": 60, "batch_size": 128},
    "kinships": {"title": "Kinships", "epochs": 60, "batch_size": 256},
    "umls": {"title": "UMLS", "epochs": 60, "batch_size": 256},
    "codexsmall": {"title": "CoDEx-S", "epochs": 20, "batch_size": 512},
    "family": {"title": "Family", "epochs": 40, "batch_size": 512},
    "wn18rr": {"title": "WN18RR", "epochs": 20, "batch_size": 1024},
    "fb15k237": {"title": "FB15k-237", "epochs": 8, "batch_size": 1024},
}
_XAVIER = {"entity_initializer": "xavier_normal_", "relation_initializer": "xavier_normal_"}
_BILINEAR: dict[str, Any] = {
    "model_kwargs": {"embedding_dim": 64, **_XAVIER},
    "loss_kwargs": {"margin": 0.0, "adversarial_temperature": 1.0},
    "optimizer": "adagrad",
    "optimizer_kwargs": {"lr": 0.1},
    "regularizer": "powersum",
    "regularizer_kwargs": {"weight": 1.4e-3, "p": 3.0},
}
_DISTANCE: dict[str, Any] = {
    "model_kwargs": {"embedding_dim": 64},
    "loss_kwargs": {"margin": 9.0, "adversarial_temperature": 1.0},
    "optimizer": "adam",
    "optimizer_kwargs": {"lr": 1e-2},
}
#: model, as in the names of recipes -> its class, and the settings of default recipes
MODELS: dict[str, dict[str, Any]] = {
    # PyKEEN's default initializer of relations, by a name that JSON can hold
    "transe": {
        "class": "TransE",
        **_DISTANCE,
        "model_kwargs": {**_DISTANCE["model_kwargs"], "relation_initializer": "xavier_uniform_norm_"},
    },
    # without PyKEEN's normalisation of entities: products of unit vectors are too small for a loss without a margin
    "distmult": {
        "class": "DistMult",
        **_BILINEAR,
        "model_kwargs": {**_BILINEAR["model_kwargs"], "entity_constrainer": None},
    },
    "complex": {"class": "ComplEx", **_BILINEAR},
    "rotate": {"class": "RotatE", **_DISTANCE},
}
#: loss -> PyKEEN's normalised name. ``nssa`` is that of the recipes, with their margin and temperature.
LOSSES: dict[str, str] = {"nssa": "nssa", "softplus": "softplus", "crossentropy": "crossentropy", "infonce": "infonce"}
_NUM_NEGATIVES = 8
_RESOLVERS: dict[str, ClassResolver[Any]] = {
    "model": model_resolver,
    "loss": loss_resolver,
    "regularizer": regularizer_resolver,
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What one row trains.

    :param recipe: ``<data set>-<model>``, or a shipped recipe whose name goes on from there
    :param variant: the negatives, see :data:`suite.variants.VARIANTS`
    :param seed: the random seed
    :param loss: the loss, see :data:`LOSSES`
    :param filtered: whether known triples are filtered out of the negatives, exactly
    :param num_negatives: negatives for each positive, default: the variant's or else the recipe's
    :param epochs: the number of epochs, default: the recipe's
    :param dim: the embedding dimension, default: the recipe's
    """

    recipe: str
    variant: str
    seed: int
    loss: str = "nssa"
    filtered: bool = False
    num_negatives: int | None = None
    epochs: int | None = None
    dim: int | None = None

    @property
    def dataset(self) -> str:
        """The data set, as in the names of recipes."""
        return self.recipe.partition("-")[0]

    @property
    def model(self) -> str:
        """The model, as in the names of recipes."""
        return self.recipe.split("-")[1]


def spelled_out(part: str, hint: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of a component that JSON can express, since PyKEEN's validator wants them all.

    :param part: ``model``, ``loss`` or ``regularizer``
    :param hint: the name of the component
    :param kwargs: its options

    :returns: its options, and the defaults of all others
    """
    parameters = inspect.signature(_RESOLVERS[part].lookup(hint).__init__).parameters
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if isinstance(parameter.default, bool | int | float | str)
    }
    return {**defaults, **kwargs}


@functools.cache
def _default_recipe(dataset: str, model: str) -> dict[str, Any]:
    """Make the default recipe of a pair that has none of its own."""
    options = MODELS[model]
    sizes = DATASETS[dataset]
    pipeline: dict[str, Any] = {
        "dataset": dataset,
        "dataset_kwargs": {"create_inverse_triples": True},
        "model": options["class"],
        "model_kwargs": spelled_out("model", options["class"], options["model_kwargs"]),
        "loss": "nssa",
        "loss_kwargs": spelled_out("loss", "nssa", options["loss_kwargs"]),
        "optimizer": options["optimizer"],
        "optimizer_kwargs": options["optimizer_kwargs"],
        "training_loop": "slcwa",
        "negative_sampler": "basic",
        "negative_sampler_kwargs": {"num_negs_per_pos": _NUM_NEGATIVES, "corruption_scheme": ["tail"]},
        "training_kwargs": {"num_epochs": sizes["epochs"], "batch_size": sizes["batch_size"]},
    }
    if "regularizer" in options:
        pipeline["regularizer"] = options["regularizer"]
        pipeline["regularizer_kwargs"] = spelled_out(
            "regularizer", options["regularizer"], options["regularizer_kwargs"]
        )
    title = f"{options['class']} on {sizes['title']}, default recipe"
    return {"metadata": {"title": title, "comments": "Tuned for nothing."}, "pipeline": pipeline, "results": {}}


def base_recipe(name: str) -> dict[str, Any]:
    """Get the recipe of a pair of data set and model, the shipped one where there is one.

    :param name: ``<data set>-<model>``

    :returns: a PyKEEN experiment, which may be changed

    :raises ValueError: if the data set or the model is unknown
    """
    if name in recipe_names():
        recipe = load_recipe(name)
        if "num_negatives" in recipe["metadata"]:
            # other negatives are as many as these with the generated vectors
            recipe["pipeline"]["negative_sampler_kwargs"]["num_negs_per_pos"] = recipe["metadata"]["num_negatives"]
        return recipe
    dataset, _, model = name.partition("-")
    if dataset not in DATASETS or model not in MODELS:
        raise ValueError(
            f"recipe={name!r} is unknown; join one of {sorted(DATASETS)} and one of {sorted(MODELS)} by a hyphen, or "
            f"choose a shipped one of {recipe_names()}."
        )
    return copy.deepcopy(_default_recipe(dataset, model))


def _sampler_options(sampler: str, options: dict[str, Any]) -> dict[str, Any]:
    """Keep what a sampler understands; pseudo-typed and Bernoulli sampling choose the sides themselves."""
    cls = negative_sampler_resolver.lookup(sampler)
    parameters = inspect.signature(cls.__init__).parameters
    known = {*parameters, "num_negs_per_pos", "filtered", "filterer"}
    return {key: value for key, value in options.items() if key in known}


def configuration(setting: Setting) -> dict[str, Any]:
    """Make the configuration of a row.

    :param setting: what the row trains

    :returns: a PyKEEN experiment that ``pykeen experiments run`` accepts

    :raises ValueError: if recipe, variant or loss are unknown, or if no configuration can express the variant
    """
    if setting.variant not in VARIANTS:
        raise ValueError(f"variant={setting.variant!r} is unknown; choose one of {sorted(VARIANTS)}.")
    variant = VARIANTS[setting.variant]
    if variant.callback == "oracle":
        raise ValueError(
            f"variant={setting.variant!r} cannot be written as a configuration, since its callback belongs to this "
            f"suite; run it with `python benchmarks/run.py quality`."
        )
    return configuration_to_run(setting)


def configuration_to_run(setting: Setting) -> dict[str, Any]:
    """Make the configuration of a row, without a callback that only this suite has.

    :param setting: what the row trains

    :returns: a PyKEEN experiment

    :raises ValueError: if the recipe or the loss is unknown
    """
    variant = VARIANTS[setting.variant]
    recipe = _shared(setting)
    pipeline = recipe["pipeline"]
    if variant.sampler == AS_SHIPPED:
        return _as_shipped(recipe, setting)
    options = {**pipeline["negative_sampler_kwargs"], **variant.sampler_kwargs}
    number = setting.num_negatives or variant.num_negatives
    if number is not None:
        options["num_negs_per_pos"] = number
    if setting.filtered:
        options.update(filtered=True, filterer="exact")
    pipeline["negative_sampler"] = variant.sampler
    pipeline["negative_sampler_kwargs"] = _sampler_options(variant.sampler, options)
    pipeline["random_seed"] = setting.seed
    training = pipeline["training_kwargs"]
    if variant.callback == "curriculum":
        training["callbacks"] = variant.callback
        if variant.callback_kwargs:
            training["callbacks_kwargs"] = dict(variant.callback_kwargs)
    metadata = recipe["metadata"]
    metadata["benchmark"] = dataclasses.asdict(setting)
    return recipe


def _as_shipped(recipe: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Bring back the sampler and the callbacks of the shipped recipe."""
    if setting.recipe not in recipe_names():
        raise ValueError(
            f"variant={setting.variant!r} needs a shipped recipe, and there is none of {setting.recipe!r}; choose one "
            f"of {recipe_names()}."
        )
    if setting.filtered or setting.num_negatives is not None:
        raise ValueError(
            f"variant={setting.variant!r} has the negatives of the recipe; leave filtered={setting.filtered} and "
            f"num_negatives={setting.num_negatives} as they are."
        )
    shipped = load_recipe(setting.recipe)["pipeline"]
    pipeline = recipe["pipeline"]
    for key in ("negative_sampler", "negative_sampler_kwargs"):
        pipeline[key] = shipped[key]
    for key in ("callbacks", "callbacks_kwargs"):
        if key in shipped["training_kwargs"]:
            pipeline["training_kwargs"][key] = shipped["training_kwargs"][key]
    pipeline["random_seed"] = setting.seed
    recipe["metadata"]["benchmark"] = dataclasses.asdict(setting)
    return recipe


def _shared(setting: Setting) -> dict[str, Any]:
    """Make what all variants of a setting have in common, which is everything but the negatives."""
    recipe = base_recipe(setting.recipe)
    pipeline = recipe["pipeline"]
    if setting.loss not in LOSSES:
        raise ValueError(f"loss={setting.loss!r} is unknown; choose one of {sorted(LOSSES)}.")
    loss = LOSSES[setting.loss]
    if loss != pipeline["loss"]:
        pipeline["loss"] = loss
        pipeline["loss_kwargs"] = spelled_out("loss", loss, {})
    training = pipeline["training_kwargs"]
    training.pop("callbacks", None)
    training.pop("callbacks_kwargs", None)
    if setting.epochs is not None:
        training["num_epochs"] = setting.epochs
    if setting.dim is not None:
        pipeline["model_kwargs"]["embedding_dim"] = setting.dim
    # what is special to the recipe's own sampler stays behind
    kept = ("num_negs_per_pos", "corruption_scheme")
    pipeline["negative_sampler_kwargs"] = {
        key: value for key, value in pipeline["negative_sampler_kwargs"].items() if key in kept
    }
    return recipe


def shared_digest(setting: Setting) -> str:
    """Hash what all variants of a setting have in common, by which rows of an older recipe are told apart.

    :param setting: the setting

    :returns: a short hash
    """
    pipeline = _shared(setting)["pipeline"]
    del pipeline["negative_sampler"]
    pipeline["filtered"] = setting.filtered
    if setting.num_negatives is not None:
        pipeline["negative_sampler_kwargs"]["num_negs_per_pos"] = setting.num_negatives
    return digest(pipeline)


def options_digest(setting: Setting) -> str:
    """Hash the defaults of sampler and callbacks, by which rows of other defaults are told apart.

    :param setting: the setting

    :returns: a short hash
    """
    pipeline = configuration_to_run(setting)["pipeline"]
    hints = pipeline["training_kwargs"].get("callbacks", [])
    classes = [
        negative_sampler_resolver.lookup(pipeline["negative_sampler"]),
        *(callback_resolver.lookup(hint) for hint in ([hints] if isinstance(hints, str) else hints)),
    ]
    digested: list[Any] = [
        {name: repr(parameter.default) for name, parameter in inspect.signature(cls.__init__).parameters.items()}
        for cls in classes
    ]
    # other variants are never given another meaning, but recipes may be
    if VARIANTS[setting.variant].sampler == AS_SHIPPED:
        digested += [pipeline["negative_sampler_kwargs"], pipeline["training_kwargs"]]
    return digest(digested)


def is_present(row: Mapping[str, Any], setting: Setting) -> bool:
    """Tell whether a row was measured with the recipe and the defaults as they are now.

    :param row: the row; those of early versions do not tell how these were, and are taken for present ones
    :param setting: its setting

    :returns: whether it was
    """
    shared, options = shared_digest(setting), options_digest(setting)
    return bool(row.get("shared", shared) == shared and row.get("options", options) == options)
