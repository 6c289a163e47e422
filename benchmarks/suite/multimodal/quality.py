"""Quality at equal budget: uniform negatives, noise control, structural level alone, and texts.

Each row is one training of a shipped recipe, which was tuned for uniform negatives on validation triples. An
interrupted run is resumed. Rows of validation triples, by which options are chosen, are marked.
"""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

from pykeen.pipeline import pipeline

from pykeen_dans.experiments import load_recipe, with_sampler
from pykeen_dans.training.callback import CurriculumTrainingCallback

from ..rows import append, digest, environment, load
from .ranking import fast_ranking

__all__ = [
    "RECIPES",
    "VARIANTS",
    "Variant",
    "execute",
    "run",
]

logger = logging.getLogger(__name__)

FILE = "multimodal-quality.jsonl"
#: The name of each data set's folder, which holds a table ``entity_text.tsv.xz`` of labels and texts
FOLDERS = {"mkgw": "MKG-W", "mkgy": "MKG-Y", "db15k": "DB15K"}
RECIPES = tuple(f"{dataset}-rotate" for dataset in FOLDERS)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One kind of negatives.

    :param label: how tables call it
    :param sampler: the sampler
    :param texts: whether the sampler has texts
    :param sampler_kwargs: further options of the sampler
    :param callback_kwargs: options of the curriculum callback
    """

    label: str
    sampler: str = "hierarchical"
    texts: bool = True
    sampler_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    callback_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_LATENT = {"latent_weight": 0.01, "latent_adaptive": True, "latent_kinds": ["head", "tail", "both"]}
#: name -> variant. Names are keys of result files: they are never given another meaning.
VARIANTS: dict[str, Variant] = {
    "basic": Variant("uniform", sampler="basic", texts=False),
    "dhns-noise": Variant("noise control, texts", sampler_kwargs={"trained": False}),
    "dhns": Variant("dhns, structural", texts=False),
    "dhns-text": Variant("dhns, texts"),
    "dhns-text-easy": Variant(
        "dhns, texts, a smaller share, easier",
        sampler_kwargs={"curriculum_kwargs": {"share": [0.25, 0.0]}, "targets": [0.4, 0.3, 0.2, 0.1]},
    ),
    "dhns-text-late": Variant(
        "dhns, texts, growing share", sampler_kwargs={"curriculum_kwargs": {"share": [0.0, 0.25]}}
    ),
    "dhns-text-latent": Variant(
        "dhns, texts, latent mode alone",
        sampler_kwargs={"curriculum_kwargs": {"share": 0.0}},
        callback_kwargs=_LATENT,
    ),
}


def text_table(texts: pathlib.Path, dataset: str) -> dict[str, Any]:
    """Describe the texts of a data set as a modality.

    :param texts: the folder of the tables of all data sets
    :param dataset: the data set, as in the names of recipes

    :returns: the option ``modalities`` of the sampler
    """
    return {"textual": {"text": str(texts.joinpath(FOLDERS[dataset], "entity_text.tsv.xz"))}}


def recipe_digest(recipe: str) -> str:
    """Hash a recipe, by which rows of an older one are told apart."""
    return digest(load_recipe(recipe)["pipeline"])


def run(recipe: str, variant: str, seed: int, *, texts: pathlib.Path, validation: bool) -> dict[str, Any]:
    """Train once.

    :param recipe: the name of a shipped recipe
    :param variant: the name of a variant
    :param seed: the random seed
    :param texts: the folder of the tables of texts
    :param validation: whether validation triples are ranked rather than test triples

    :returns: the row
    """
    options = VARIANTS[variant]
    configuration = with_sampler(load_recipe(recipe), options.sampler, seed=seed)["pipeline"]
    callback = None
    if options.sampler != "basic":
        modalities = text_table(texts, configuration["dataset"]) if options.texts else {}
        configuration["negative_sampler_kwargs"].update(options.sampler_kwargs, modalities=modalities)
        callback = CurriculumTrainingCallback(**options.callback_kwargs)
    configuration["training_kwargs"].update(callbacks=callback, use_tqdm=False)
    started = time.perf_counter()
    processor = time.process_time()
    with fast_ranking():
        result = pipeline(
            **configuration,
            use_testing_data=not validation,
            evaluation_kwargs={"use_tqdm": False, "batch_size": 64},
        )
    return {
        "recipe": recipe,
        "digest": recipe_digest(recipe),
        "variant": variant,
        "seed": seed,
        "ranked": "validation" if validation else "test",
        "mrr": result.get_metric("both.realistic.inverse_harmonic_mean_rank"),
        "hits_at_1": result.get_metric("both.realistic.hits_at_1"),
        "hits_at_10": result.get_metric("both.realistic.hits_at_10"),
        "loss": result.losses[-1],
        "num_epochs": len(result.losses),
        "train_seconds": result.train_seconds,
        "overhead_seconds": getattr(callback, "overhead_seconds", 0.0),
        "processor_seconds": time.process_time() - processor,
        "total_seconds": time.perf_counter() - started,
        **environment(result.model.device),
    }


def execute(
    recipes: Iterable[str],
    variants: Iterable[str],
    seeds: Iterable[int],
    folder: pathlib.Path,
    *,
    texts: pathlib.Path,
    validation: bool = False,
) -> int:
    """Run what is not there yet.

    :param recipes: names of shipped recipes
    :param variants: names of variants
    :param seeds: random seeds
    :param folder: the folder of the result files
    :param texts: the folder of the tables of texts
    :param validation: whether validation triples are ranked rather than test triples

    :returns: the number of new rows
    """
    path = folder / FILE
    keys = ("recipe", "digest", "variant", "seed", "ranked")
    done = {tuple(row[key] for key in keys) for row in load(path)}
    # variants innermost, so that whatever the machine does hits all of them alike
    wanted = [(recipe, variant, seed) for recipe in recipes for seed in seeds for variant in variants]
    count = 0
    for recipe, variant, seed in wanted:
        if (recipe, recipe_digest(recipe), variant, seed, "validation" if validation else "test") in done:
            continue
        row = run(recipe, variant, seed, texts=texts, validation=validation)
        append(path, row)
        count += 1
        logger.info("%s, %s, seed %d: %s MRR %.4f", recipe, variant, seed, row["ranked"], row["mrr"])
    return count
