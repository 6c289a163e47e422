"""Experiments in PyKEEN's JSON, made of a recipe, a variant and a seed.

A recipe is one that the package ships, tuned on validation triples. A pair of data set and model without one has a
default recipe, the customary settings of the model with the epochs of the data set, which was tuned for nothing: its
rows say ``"trials": 0``.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from typing import Any

from class_resolver import ClassResolver
from pykeen.losses import loss_resolver
from pykeen.models import model_resolver
from pykeen.regularizers import regularizer_resolver
from pykeen.sampling import negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop, training_loop_resolver
from pykeen.training.callbacks import callback_resolver

from pykeen_dans.experiments import load_recipe, recipe_names
from pykeen_dans.generators import generator_resolver
from pykeen_dans.training.callback import CurriculumTrainingCallback
from pykeen_dans.training.loops import GeneratedTrainingLoop
from pykeen_dans.training.shared_negatives import SharedNegativesTrainingLoop
from pykeen_dans.utils.validation import keywords_of

from .data import DATASETS, SYNTHETIC, title_of
from .rows import digest
from .variants import GENERATORS, lookup, merge

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
#: model, as in the names of recipes -> its class, and the settings of recipes that are not tuned
MODELS: dict[str, dict[str, Any]] = {
    # without PyKEEN's normalisation of entities: products of unit vectors are too small for a loss without a margin
    "distmult": _BILINEAR
    | {"model": "DistMult", "model_kwargs": {"embedding_dim": 64, **_XAVIER, "entity_constrainer": None}},
    "complex": _BILINEAR | {"model": "ComplEx"},
    "rotate": _DISTANCE | {"model": "RotatE"},
    # the encoder of DANS; before ComplEx and RotatE, PyKEEN's has no complex vectors, and both become something else
    "rgcn": _BILINEAR
    | {
        "model": "RGCN",
        "model_kwargs": {"embedding_dim": 64, "num_layers": 2, "edge_dropout": 0.2, "interaction": "DistMult"},
        "optimizer": "adam",
        "optimizer_kwargs": {"lr": 1e-2},
        "regularizer_kwargs": {"weight": 1e-5, "p": 3.0},
    },
}
_NUM_NEGATIVES = 8
_RESOLVERS: dict[str, ClassResolver[Any]] = {
    "model": model_resolver,
    "loss": loss_resolver,
    "regularizer": regularizer_resolver,
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What one row trains."""

    #: ``<data set>-<model>``, or a shipped recipe whose name goes on from there
    recipe: str
    #: a name in :data:`suite.variants.VARIANTS`, which may have a factor of the number of epochs
    variant: str
    seed: int
    #: further changes of the pipeline, nested as there
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The data set, as in the names of recipes."""
        return self.recipe.partition("-")[0]


def spelled_out(part: str, hint: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Add the defaults of a component that JSON can express, since PyKEEN's validator wants them all."""
    parameters = inspect.signature(_RESOLVERS[part].lookup(hint).__init__).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    return {key: value for key, value in defaults.items() if isinstance(value, bool | int | float | str)} | {**kwargs}


def _default_recipe(name: str) -> dict[str, Any]:
    """Make the recipe of a pair that has none of its own."""
    dataset, _, model = name.partition("-")
    is_synthetic = dataset.removeprefix(SYNTHETIC).isdigit()
    if not (dataset in DATASETS or is_synthetic) or model not in MODELS:
        raise ValueError(
            f"recipe={name!r} is unknown; join one of {sorted(DATASETS)} and one of {sorted(MODELS)} by a hyphen, or "
            f"choose a shipped one of {recipe_names()}."
        )
    title, epochs, batch_size = ("a synthetic graph", 1, 512) if is_synthetic else DATASETS[dataset]
    # an encoder makes its own inverse triples
    inverse = model != "rgcn" and not is_synthetic
    pipeline: dict[str, Any] = {
        "dataset": dataset,
        "dataset_kwargs": {"create_inverse_triples": inverse},
        **MODELS[model],
        "loss": "nssa",
        "training_kwargs": {"num_epochs": epochs, "batch_size": batch_size},
    }
    for part in _RESOLVERS:
        if part in pipeline:
            pipeline[f"{part}_kwargs"] = spelled_out(part, pipeline[part], pipeline[f"{part}_kwargs"])
    return {"metadata": {"title": f"{pipeline['model']} on {title}", "trials": 0}, "pipeline": pipeline}


def base_recipe(name: str, endings: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """Get the first recipe of some endings, or else the pair's own one, without what it says of its own sampler.

    :raises ValueError: if the data set or the model is unknown
    """
    pair = "-".join(name.split("-")[:2])
    candidates = [f"{pair}-{ending}" if ending else name for ending in endings]
    found = next((key for key in candidates if key in recipe_names()), None)
    # what was not tuned for these ones has the settings of uniform negatives
    tuned = found is not None
    found = found or (name if name in recipe_names() else None)
    recipe = _default_recipe(name) if found is None else load_recipe(found)
    metadata, pipeline = recipe["metadata"], recipe["pipeline"]
    # with inverse triples, heads are ranked as tails of the inverse relation: only tails need negatives
    sides = ["tail"] if pipeline["dataset_kwargs"].get("create_inverse_triples") else ["head", "tail"]
    own = pipeline.get("negative_sampler_kwargs", {}).get("num_negs_per_pos", _NUM_NEGATIVES)
    # other negatives are as many as these with the generated vectors
    options = {"num_negs_per_pos": metadata.get("num_negatives", own), "corruption_scheme": sides}
    training = {key: value for key, value in pipeline["training_kwargs"].items() if not key.startswith("callbacks")}
    pipeline.pop("training_loop_kwargs", None)
    pipeline |= {
        "training_loop": "slcwa",
        "negative_sampler": "basic",
        "negative_sampler_kwargs": options,
        "training_kwargs": training,
    }
    kept = {"title": metadata["title"], "recipe": found or name, "trials": metadata["trials"] if tuned else 0}
    return {"metadata": kept, "pipeline": pipeline, "results": {}}


def experiment(setting: Setting) -> dict[str, Any]:
    """Make the experiment of a row, which ``pykeen experiments run`` accepts.

    :raises ValueError: if recipe or variant are unknown
    """
    variant, factor = lookup(setting.variant)
    recipe = base_recipe(setting.recipe, variant.tuned)
    pipeline = recipe["pipeline"]
    overrides = merge(variant.overrides, setting.overrides)
    if overrides.get("loss", pipeline["loss"]) != pipeline["loss"]:
        pipeline["loss_kwargs"] = spelled_out("loss", overrides["loss"], {})
    pipeline = recipe["pipeline"] = merge(pipeline, overrides)
    pipeline["training_kwargs"]["num_epochs"] = round(factor * pipeline["training_kwargs"]["num_epochs"])
    if pipeline["training_loop"] == "1vsall":
        inverse = pipeline["dataset_kwargs"].get("create_inverse_triples")
        pipeline["training_loop"] = "lcwa" if inverse else "symmetriclcwa"
    loop = training_loop_resolver.lookup(pipeline["training_loop"])
    if issubclass(loop, GeneratedTrainingLoop):
        # the loop brings its own, and knows its sides
        pipeline["negative_sampler"] = negative_sampler_resolver.normalize_cls(loop.sampler_cls)
        pipeline["negative_sampler_kwargs"] = dict(overrides.get("negative_sampler_kwargs", {}))
    elif not issubclass(loop, SLCWATrainingLoop) or (
        issubclass(loop, SharedNegativesTrainingLoop) and "negative_sampler" not in overrides
    ):
        del pipeline["negative_sampler"], pipeline["negative_sampler_kwargs"]
    else:
        # Bernoulli and pseudo-typed sampling choose the sides themselves
        known = keywords_of(negative_sampler_resolver.lookup(pipeline["negative_sampler"])) | {"num_negs_per_pos"}
        options = pipeline["negative_sampler_kwargs"].items()
        pipeline["negative_sampler_kwargs"] = {k: v for k, v in options if k in known or k != "corruption_scheme"}
    pipeline["random_seed"] = setting.seed
    # in the paths of modalities
    recipe["pipeline"] = json.loads(json.dumps(pipeline).replace("{title}", title_of(setting.dataset)))
    recipe["metadata"] |= {"variant": setting.variant, "digest": experiment_digest(recipe)}
    return recipe


#: Defaults as rows with a callback know them, though they have changed since: the callback makes no use of them
_UNUSED = {("GeneratedNegativeSampler", "fit_steps"): "500"}


#: Options that are younger than rows, with defaults by which nothing has changed
_YOUNGER = {("CurriculumTrainingCallback", "steer")}


def _defaults(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the defaults of our own classes that a pipeline names."""
    callbacks, sampler = pipeline["training_kwargs"].get("callbacks"), pipeline.get("negative_sampler")
    loop = training_loop_resolver.lookup(pipeline["training_loop"])
    classes: list[type] = [loop, *([callback_resolver.lookup(callbacks)] if callbacks else [])]
    if sampler is not None:
        classes.append(negative_sampler_resolver.lookup(sampler))
    if sampler in GENERATORS:
        generator = pipeline["negative_sampler_kwargs"].get("generator", GENERATORS[sampler])
        classes += [generator_resolver.lookup(generator), CurriculumTrainingCallback]
    found = {
        base.__name__: made
        for cls in classes
        for base in cls.__mro__
        if base.__module__.startswith("pykeen_dans") and (made := vars(base).get("__init__"))
    }
    unused = _UNUSED if callbacks or issubclass(loop, GeneratedTrainingLoop) else {}
    # where a class overrides the defaults of its base, they are constants of its code
    return {
        name: [
            {
                key: unused.get((name, key), repr(value.default))
                for key, value in inspect.signature(made).parameters.items()
                if (name, key) not in _YOUNGER
            },
            sorted(repr(value) for value in made.__code__.co_consts if isinstance(value, bool | int | float | tuple)),
        ]
        for name, made in found.items()
    }


def experiment_digest(recipe: Mapping[str, Any]) -> str:
    """Hash an experiment, whatever its seed, and the defaults of our classes, by which old rows are told apart."""
    pipeline = {key: value for key, value in recipe["pipeline"].items() if key != "random_seed"}
    return digest([pipeline, _defaults(pipeline)])
