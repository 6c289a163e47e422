"""Recipes: training configurations in PyKEEN's own JSON format.

Each file is a complete experiment, ``pykeen experiments run umls-complex.json -d OUT`` runs it. Its hyper-parameters
were chosen on validation triples, as its metadata tell: for uniform negatives, which the generated ones use unchanged,
or, where the name ends in the loss, for shared ones; :func:`with_sampler`
swaps one for the other, and leaves all else as it is. The files are written by ``benchmarks/run.py tune``.

>>> from pykeen_dans.experiments import load_recipe, with_sampler
>>> recipe = with_sampler(load_recipe("umls-complex"), "basic", num_negatives=16)
>>> recipe["pipeline"]["negative_sampler_kwargs"]["num_negs_per_pos"]
16
"""

from __future__ import annotations

import copy
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from ..utils.validation import validate_at_least, validate_choice

__all__ = [
    "load_recipe",
    "recipe_names",
    "recipe_path",
    "with_sampler",
]

_HERE = pathlib.Path(__file__).parent.resolve()
#: What every sampler understands
_COMMON = ("num_negs_per_pos", "corruption_scheme")


def recipe_names() -> list[str]:
    """List the names of all recipes, each ``<data set>-<model>``.

    :returns: the names, sorted
    """
    return sorted(path.stem for path in _HERE.glob("*.json"))


def recipe_path(name: str) -> pathlib.Path:
    """Locate the file of a recipe.

    :param name: the name of the recipe

    :returns: its path

    :raises ValueError: if there is none of this name
    """
    return _HERE / f"{validate_choice('name', name, recipe_names())}.json"


def load_recipe(name: str) -> dict[str, Any]:
    """Load a recipe.

    :param name: the name of the recipe

    :returns: a PyKEEN experiment with the keys ``metadata``, ``pipeline`` and ``results``

    :raises ValueError: if there is none of this name
    """
    recipe: dict[str, Any] = json.loads(recipe_path(name).read_text(encoding="utf-8"))
    return recipe


def with_sampler(
    recipe: Mapping[str, Any],
    sampler: str,
    *,
    callback: str | None = None,
    num_negatives: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Use another sampler in a recipe, and nothing else.

    :param recipe: the recipe, which is not changed
    :param sampler: the name of the sampler. It gets the number of negatives and the sides to corrupt, and has its
        defaults in all other options.
    :param callback: the name of a training callback, default: none
    :param num_negatives: the number of negatives for each positive, default: the recipe's, with the generated vectors
        that it scores themselves
    :param epochs: the number of epochs, default: the recipe's
    :param seed: the random seed, default: none, by which PyKEEN draws one

    :returns: the new recipe

    :raises ValueError: if a number is less than 1
    """
    result: dict[str, Any] = copy.deepcopy(dict(recipe))
    pipeline: dict[str, Any] = result["pipeline"]
    given = pipeline.get("negative_sampler_kwargs") or {}
    options = {key: given[key] for key in _COMMON if key in given}
    pipeline.update(negative_sampler=sampler, negative_sampler_kwargs=options)
    training: dict[str, Any] = pipeline["training_kwargs"]
    for key in ("callbacks", "callbacks_kwargs"):
        training.pop(key, None)
    if callback is not None:
        training["callbacks"] = callback
    if num_negatives is None:
        num_negatives = result.get("metadata", {}).get("num_negatives")
    if num_negatives is not None:
        options["num_negs_per_pos"] = validate_at_least("num_negatives", num_negatives, 1)
    if epochs is not None:
        training["num_epochs"] = validate_at_least("epochs", epochs, 1)
    if seed is not None:
        pipeline["random_seed"] = validate_at_least("seed", seed, 0)
    return result
