"""Turn the records of ``tune.py`` into the recipes that the package ships.

No number is copied by hand: the recipes are what the best trial of each study used, spelled out as PyKEEN's JSON. A
pair without a study of its own takes the values of the same model's study on the data set whose number of triples is
nearest, keeps the number of epochs and the batch size of its own data set, and says so in its metadata.

    python benchmarks/make_recipes.py
"""

from __future__ import annotations

import inspect
import json
import math
import pathlib
from typing import Any

import click
from pykeen.losses import loss_resolver
from pykeen.models import model_resolver
from pykeen.regularizers import regularizer_resolver
from tune import NUM_NEGATIVES, STUDIES, TUNING, corrupted_sides

RECIPES = pathlib.Path(__file__).parent.parent.resolve().joinpath("pykeen_dans", "experiments")

#: The number of training triples of each data set, by which the nearest one is found
NUM_TRIPLES = {"umls": 5_216, "kinships": 8_544, "codexsmall": 32_888, "wn18rr": 86_835, "fb15k237": 272_115}
#: The same for the data sets of multi-modal completion, which are apart from the others: sparse, and without inverse
#: triples
MULTIMODAL = {"mkgw": 34_196, "mkgy": 21_310, "db15k": 71_299}
MODELS = ("complex", "rotate")
RESOLVERS = {"model": model_resolver, "loss": loss_resolver, "regularizer": regularizer_resolver}


def load_studies() -> dict[str, dict[str, Any]]:
    """Load the records that are there, by their name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(TUNING.glob("*.json"))}


def nearest(name: str, studies: dict[str, dict[str, Any]]) -> str | None:
    """Find the study of the same model whose data set is nearest in size, which is the own one where it exists.

    :returns: its name, or None where the model has no study at all
    """
    dataset, _, model = name.partition("-")
    family = MULTIMODAL if dataset in MULTIMODAL else NUM_TRIPLES

    def distance(study: str) -> float:
        return abs(math.log(family[study.partition("-")[0]] / family[dataset]))

    candidates = [s for s in studies if s.endswith(f"-{model}") and s.partition("-")[0] in family]
    return min(candidates, key=distance, default=None)


def spelled_out(part: str, hint: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of a component that JSON can express, since PyKEEN's validator wants them all."""
    parameters = inspect.signature(RESOLVERS[part].lookup(hint).__init__).parameters
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if isinstance(parameter.default, bool | int | float | str)
    }
    return {**defaults, **kwargs}


def make_recipe(name: str, source: str, record: dict[str, Any]) -> dict[str, Any]:
    """Make the recipe of a pair of data set and model from the record of a study."""
    dataset = name.partition("-")[0]
    study = record["study"]
    own = next(own for key, own in STUDIES.items() if key.startswith(f"{dataset}-"))
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
        "negative_sampler": "hierarchical" if dataset in MULTIMODAL else "diffusionadaptive",
        "negative_sampler_kwargs": {"num_negs_per_pos": NUM_NEGATIVES, "corruption_scheme": corrupted_sides(study)},
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
        if source == name
        else f"There is no study of {name}: hyper-parameters are those of {source}, the study of this model on the "
        f"data set nearest in size; epochs and batch size are those of other models on {dataset}."
    )
    return {
        "metadata": {
            "title": f"{study['model']} on {own['dataset']} with generated negatives",
            "comments": comments,
            "study": source,
            "tuned_for": record["negative_sampler"],
            "metric": record["metric"],
        },
        "pipeline": pipeline,
        "results": {},
    }


@click.command()
def main() -> None:
    """Write the recipes of all pairs of data set and model."""
    studies = load_studies()
    RECIPES.mkdir(parents=True, exist_ok=True)
    for dataset in (*NUM_TRIPLES, *MULTIMODAL):
        for model in MODELS:
            name = f"{dataset}-{model}"
            source = nearest(name, studies)
            if source is None:
                click.echo(f"{name}: left out, since {model} has no study; run `python benchmarks/tune.py` first")
                continue
            recipe = make_recipe(name, source, studies[source])
            RECIPES.joinpath(f"{name}.json").write_text(json.dumps(recipe, indent=2) + "\n")
            click.echo(f"{name}: from the study {source}")


if __name__ == "__main__":
    main()
