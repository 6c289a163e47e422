"""Turn the records of ``tune.py`` into the recipes that the package ships.

No number is copied by hand: the recipes are what the best trial of each study used, spelled out as PyKEEN's JSON. A
pair without a study of its own takes the values of the same model's study on the data set whose number of triples is
nearest, keeps the number of epochs and the batch size of its own data set, and says so in its metadata. A study with
another number of negatives is taken where there is none with the same number on the same data set.

    python benchmarks/make_recipes.py
"""

from __future__ import annotations

import itertools
import json
import math
import pathlib
from typing import Any

import click
from suite.configurations import spelled_out
from tune import NUM_NEGATIVES, STUDIES, TUNING, corrupted_sides

RECIPES = pathlib.Path(__file__).parent.parent.resolve().joinpath("pykeen_dans", "experiments")

#: The number of training triples of each data set, by which the nearest one is found
NUM_TRIPLES = {
    "umls": 5_216,
    "kinships": 8_544,
    "family": 23_483,
    "codexsmall": 32_888,
    "wn18rr": 86_835,
    "nell995": 149_678,
    "fb15k237": 272_115,
}
#: The same for the data sets of multi-modal completion, which are apart from the others: sparse, and without inverse
#: triples
MULTIMODAL = {"mkgw": 34_196, "mkgy": 21_310, "db15k": 71_299}
#: What recipes of data sets without any study are trained with
WITHOUT_STUDY: dict[str, dict[str, Any]] = {"nell995": {"dataset": "NELL995", "epochs": 20, "batch_size": 1024}}
#: Where generated vectors are scored themselves, so many of the negatives are
LATENT_NEGATIVES = 4
#: For each sampler: the ending of its recipes' names, the number of negatives, the data sets and models, and the data
#: sets where generated vectors are scored themselves, with the weight of their loss
FAMILIES: dict[str, dict[str, Any]] = {
    "diffusionadaptive": {
        "ending": "",
        "num_negatives": NUM_NEGATIVES,
        "datasets": ("umls", "kinships", "family", "codexsmall", "wn18rr", "fb15k237"),
        "models": ("complex", "rotate"),
    },
    # the number of negatives, and all data sets but CoDEx-S, are those of the paper
    "twowaygan": {
        "ending": "-dans",
        "num_negatives": 20,
        "datasets": ("umls", "codexsmall", "wn18rr", "nell995"),
        "models": ("complex", "rotate", "distmult"),
        # chosen on validation triples: there, vectors are scored themselves, and all ids are uniform
        "latent_weights": {"umls": 0.05},
    },
    "hierarchical": {
        "ending": "",
        "num_negatives": NUM_NEGATIVES,
        "datasets": tuple(MULTIMODAL),
        "models": ("rotate",),
    },
}


def load_studies() -> dict[str, dict[str, Any]]:
    """Load the records that are there, by their name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(TUNING.glob("*.json"))}


def nearest(dataset: str, model: str, num_negatives: int, studies: dict[str, dict[str, Any]]) -> str | None:
    """Find the study of the same model whose data set is nearest in size, which is the own one where it exists.

    :returns: its name, or None where the model has no study at all
    """
    of_kind = MULTIMODAL if dataset in MULTIMODAL else NUM_TRIPLES

    def distance(study: str) -> tuple[float, bool]:
        size = abs(math.log(of_kind[study.split("-")[0]] / of_kind[dataset]))
        return size, studies[study]["num_negs_per_pos"] != num_negatives

    candidates = [study for study in studies if study.split("-")[1] == model and study.split("-")[0] in of_kind]
    return min(candidates, key=distance, default=None)


def make_recipe(dataset: str, sampler: str, source: str, record: dict[str, Any]) -> dict[str, Any]:
    """Make the recipe of a data set, a sampler and the model of a study from the record of this study."""
    study = record["study"]
    num_negatives = FAMILIES[sampler]["num_negatives"]
    own = next((own for key, own in STUDIES.items() if key.startswith(f"{dataset}-")), None) or WITHOUT_STUDY[dataset]
    kwargs: dict[str, dict[str, Any]] = {
        part: dict(study.get(f"{part}_kwargs") or {}) for part in ("model", "loss", "regularizer", "optimizer")
    }
    for key, value in record["best"]["params"].items():
        part, _, parameter = key.partition(".")
        kwargs[part][parameter] = value
    pipeline: dict[str, Any] = {
        "dataset": dataset,
        "dataset_kwargs": {"create_inverse_triples": study.get("inverse_triples", True)},
        "model": study["model"],
        "model_kwargs": spelled_out("model", study["model"], kwargs["model"]),
        "loss": "nssa",
        "loss_kwargs": spelled_out("loss", "nssa", kwargs["loss"]),
        "optimizer": study["optimizer"],
        "optimizer_kwargs": kwargs["optimizer"],
        "training_loop": "slcwa",
        "negative_sampler": sampler,
        "negative_sampler_kwargs": {"num_negs_per_pos": num_negatives, "corruption_scheme": corrupted_sides(study)},
        "training_kwargs": {
            "num_epochs": own["epochs"],
            "batch_size": own["batch_size"],
            "callbacks": "curriculum",
        },
    }
    if study.get("regularizer"):
        pipeline["regularizer"] = study["regularizer"]
        pipeline["regularizer_kwargs"] = spelled_out("regularizer", study["regularizer"], kwargs["regularizer"])
    note = f" {record['note']}" if "note" in record else ""
    comments = (
        f"The best of {len(record['trials'])} trials for the sampler '{record['negative_sampler']}' on validation."
        f"{note}"
        if own["dataset"] == study["dataset"]
        else f"There is no study of {dataset}-{study['model'].lower()}: hyper-parameters are those of {source}, the "
        f"study of this model on the data set nearest in size; epochs and batch size are "
        + (f"those of other models on {dataset}." if dataset not in WITHOUT_STUDY else "a guess.")
    )
    latent_weight = FAMILIES[sampler].get("latent_weights", {}).get(dataset)
    if latent_weight is not None:
        pipeline["negative_sampler_kwargs"] |= {
            "num_negs_per_pos": num_negatives - LATENT_NEGATIVES,
            "curriculum_kwargs": {"share": 0.0},
            # the generated vectors alone, and not those on the way to a known answer
            "distances": [1.0],
            "targets": [0.2],
        }
        pipeline["training_kwargs"]["callbacks_kwargs"] = {
            "latent_weight": latent_weight,
            "latent_negatives": LATENT_NEGATIVES,
        }
        comments += (
            f" The latent mode was chosen on validation, too: {LATENT_NEGATIVES} of {num_negatives} negatives are "
            "generated vectors that are scored themselves."
        )
    if record["num_negs_per_pos"] != num_negatives:
        comments += f" The study was with {record['num_negs_per_pos']} negatives."
    return {
        "metadata": {
            "title": f"{study['model']} on {own['dataset']} with generated negatives",
            "comments": comments,
            "study": source,
            "tuned_for": record["negative_sampler"],
            "metric": record["metric"],
            **({} if latent_weight is None else {"num_negatives": num_negatives}),
        },
        "pipeline": pipeline,
        "results": {},
    }


@click.command()
def main() -> None:
    """Write the recipes of all pairs of data set and model."""
    studies = load_studies()
    RECIPES.mkdir(parents=True, exist_ok=True)
    for sampler, family in FAMILIES.items():
        for dataset, model in itertools.product(family["datasets"], family["models"]):
            name = f"{dataset}-{model}{family['ending']}"
            source = nearest(dataset, model, family["num_negatives"], studies)
            if source is None:
                click.echo(f"{name}: left out, since {model} has no study; run `python benchmarks/tune.py` first")
                continue
            recipe = make_recipe(dataset, sampler, source, studies[source])
            RECIPES.joinpath(f"{name}.json").write_text(json.dumps(recipe, indent=2) + "\n")
            click.echo(f"{name}: from the study {source}")


if __name__ == "__main__":
    main()
