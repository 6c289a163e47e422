"""Quality of ``dhns`` at equal budget: uniform negatives, noise control, structural level alone, and texts.

Each row is one training of a recipe (see ``tune.py`` and ``make_recipes.py``), which was tuned for uniform negatives on
validation triples. Texts are those of entities' names and short descriptions, encoded by TF-IDF; the image and text
features of the paper's authors are not public in reachable form. Rows are JSON lines, so that an interrupted run is
resumed. With ``--validation``, validation triples are ranked, for choosing options; such rows are marked.

    python benchmarks/multimodal.py --texts FOLDER --only mkgw-rotate --seeds 3
"""

from __future__ import annotations

import json
import logging
import pathlib
import time
from typing import Any

import click
import torch
from fast_ranking import fast_ranking
from pykeen.pipeline import pipeline

from pykeen_dans.callbacks import CurriculumTrainingCallback
from pykeen_dans.experiments import load_recipe, with_sampler

ROWS = pathlib.Path(__file__).parent.resolve().joinpath("results", "multimodal.jsonl")
#: The name of each data set's folder, which holds a table ``entity_text.tsv.xz`` of labels and texts
FOLDERS = {"mkgw": "MKG-W", "mkgy": "MKG-Y", "db15k": "DB15K"}
RECIPES = tuple(f"{dataset}-rotate" for dataset in FOLDERS)

#: name -> whether there are texts, options of the sampler, and options of the callback; None for the basic sampler
VARIANTS: dict[str, tuple[bool, dict[str, Any], dict[str, Any]] | None] = {
    "basic": None,
    "dhns-noise": (True, {"trained": False}, {}),
    "dhns": (False, {}, {}),
    "dhns-text": (True, {}, {}),
    # remedies, tried on validation triples
    "dhns-text-easy": (
        True,
        {"curriculum_kwargs": {"share": [0.25, 0.0]}, "targets": [0.4, 0.3, 0.2, 0.1]},
        {},
    ),
    "dhns-text-late": (True, {"curriculum_kwargs": {"share": [0.0, 0.25]}}, {}),
    "dhns-text-latent": (
        True,
        {"curriculum_kwargs": {"share": 0.0}},
        {"latent_weight": 0.01, "latent_adaptive": True, "latent_kinds": ["head", "tail", "both"]},
    ),
}


def run(recipe: str, variant: str, seed: int, *, texts: pathlib.Path, validation: bool) -> dict[str, Any]:
    """Train once and return the row."""
    options = VARIANTS[variant]
    configuration = with_sampler(load_recipe(recipe), "hierarchical" if options else "basic", seed=seed)["pipeline"]
    callback = None
    if options is not None:
        with_texts, sampler_kwargs, callback_kwargs = options
        path = texts.joinpath(FOLDERS[configuration["dataset"]], "entity_text.tsv.xz")
        configuration["negative_sampler_kwargs"].update(
            sampler_kwargs, modalities={"textual": {"text": str(path)}} if with_texts else {}
        )
        callback = CurriculumTrainingCallback(**callback_kwargs)
    configuration["training_kwargs"].update(callbacks=callback, use_tqdm=False)
    started = time.perf_counter()
    processor = time.process_time()
    with fast_ranking():
        result = pipeline(
            **configuration,
            use_tqdm=False,
            use_testing_data=not validation,
            result_tracker="python",
            evaluation_kwargs={"use_tqdm": False, "batch_size": 64},
        )
    return {
        "recipe": recipe,
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
        "threads": torch.get_num_threads(),
    }


def done() -> set[tuple[str, str, int, str]]:
    """List the rows that are there already."""
    if not ROWS.is_file():
        return set()
    rows = (json.loads(line) for line in ROWS.read_text().splitlines())
    return {(row["recipe"], row["variant"], row["seed"], row["ranked"]) for row in rows}


@click.command()
@click.option("--texts", type=click.Path(path_type=pathlib.Path, exists=True), required=True)
@click.option("--only", multiple=True, type=click.Choice(RECIPES), default=RECIPES)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice(sorted(VARIANTS)),
    default=("basic", "dhns-text", "dhns", "dhns-noise"),
)
@click.option("--seeds", type=int, default=3, show_default=True, help="The number of seeds.")
@click.option("--first-seed", type=int, default=1, show_default=True, help="Tuning used seed 0.")
@click.option("--validation", is_flag=True, help="Rank validation triples.")
@click.option("--threads", type=int, default=1, show_default=True)
def main(
    texts: pathlib.Path,
    only: tuple[str, ...],
    variants: tuple[str, ...],
    seeds: int,
    first_seed: int,
    validation: bool,
    threads: int,
) -> None:
    """Train and rank, and append a row for each training."""
    logging.getLogger("pykeen").setLevel(logging.ERROR)
    torch.set_num_threads(threads)
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    # variants innermost, so that whatever the machine does hits all of them alike
    for recipe in only:
        for seed in range(first_seed, first_seed + seeds):
            for variant in variants:
                if (recipe, variant, seed, "validation" if validation else "test") in done():
                    continue
                row = run(recipe, variant, seed, texts=texts, validation=validation)
                with ROWS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                click.echo(f"{recipe} {variant} {seed}: {row['ranked']} MRR {row['mrr']:.4f}")


if __name__ == "__main__":
    main()
