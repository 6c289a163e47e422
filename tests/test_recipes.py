"""Recipes are complete PyKEEN experiments, and differ in nothing but the sampler."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from pykeen.experiments.validate import get_configuration_errors
from pykeen.pipeline import pipeline_from_config
from pykeen.training.callbacks import TrainingCallback

from pykeen_dans.experiments import load_recipe, recipe_names, recipe_path, with_sampler
from pykeen_dans.sampling import (
    DiffusionAdaptiveNegativeSampler,
    GeneratedNegativeSampler,
    TwoWayGANNegativeSampler,
)
from pykeen_dans.training.vector_loss import LatentLoss

#: Data sets with texts and images of entities, for which there is RotatE alone, without inverse triples
MULTIMODAL = ("mkgw", "mkgy", "db15k")
EXPECTED = (
    {
        f"{dataset}-{model}"
        for dataset in ("umls", "kinships", "family", "codexsmall", "wn18rr", "fb15k237")
        for model in ("complex", "rotate")
    }
    | {f"{dataset}-rotate" for dataset in MULTIMODAL}
    | {
        f"{dataset}-{model}-dans"
        for dataset in ("umls", "codexsmall", "wn18rr", "nell995")
        for model in ("complex", "rotate", "distmult")
    }
)


def test_all_pairs_are_there():
    assert set(recipe_names()) == EXPECTED


@pytest.mark.parametrize("name", recipe_names())
def test_pykeen_accepts(name: str):
    assert get_configuration_errors(recipe_path(name)) == []
    pipeline = load_recipe(name)["pipeline"]
    is_gan = name.endswith("-dans")
    assert name.removesuffix("-dans") == f"{pipeline['dataset']}-{pipeline['model'].lower()}"
    is_multimodal = pipeline["dataset"] in MULTIMODAL
    sampler = "twowaygan" if is_gan else "hierarchical" if is_multimodal else "diffusionadaptive"
    assert pipeline["negative_sampler"] == sampler
    assert pipeline["dataset_kwargs"] == {"create_inverse_triples": not is_multimodal}
    # with inverse triples, the model ranks heads as tails of the inverse relation
    sides = ["head", "tail"] if is_multimodal else ["tail"]
    num_negatives = 20 if is_gan else 8
    # where validation says so, the vectors are scored, and all ids are uniform
    latent = is_gan and pipeline["dataset"] == "umls"
    options = {"curriculum_kwargs": {"share": 0.0}, "distances": [1.0], "targets": [0.2]} if latent else {}
    assert pipeline["negative_sampler_kwargs"] == {
        "num_negs_per_pos": num_negatives - (4 if latent else 0),
        "corruption_scheme": sides,
        **options,
    }
    assert pipeline["training_kwargs"].get("callbacks_kwargs") == (
        {"latent_weight": 0.05, "latent_negatives": 4} if latent else None
    )
    # other samplers get as many negatives as there are with the vectors
    others = with_sampler(load_recipe(name), "basic")["pipeline"]["negative_sampler_kwargs"]
    assert others == {"num_negs_per_pos": num_negatives, "corruption_scheme": sides}
    assert ("regularizer" in pipeline) == (pipeline["model"] in {"ComplEx", "DistMult"})
    metadata = load_recipe(name)["metadata"]
    own_study = metadata["study"].removesuffix("-20") == name.removesuffix("-dans")
    assert ("no study" in metadata["comments"]) != own_study
    assert ("with 8 negatives" in metadata["comments"]) == (is_gan and not metadata["study"].endswith("-20"))


def test_unknown_name():
    with pytest.raises(ValueError, match=r"name='umls-transe' is unknown; choose one of .*umls-complex"):
        load_recipe("umls-transe")


def test_with_sampler_changes_nothing_else():
    recipe = load_recipe("umls-complex")
    before = copy.deepcopy(recipe)
    recipe["pipeline"]["negative_sampler_kwargs"]["num_slots"] = 4
    basic = with_sampler(recipe, "basic", num_negatives=3, epochs=2, seed=7)["pipeline"]
    assert recipe["pipeline"]["training_kwargs"] == before["pipeline"]["training_kwargs"]
    assert basic.pop("negative_sampler") == "basic"
    assert basic.pop("negative_sampler_kwargs") == {"num_negs_per_pos": 3, "corruption_scheme": ["tail"]}
    assert basic.pop("random_seed") == 7
    training = basic.pop("training_kwargs")
    assert training == {"num_epochs": 2, "batch_size": before["pipeline"]["training_kwargs"]["batch_size"]}
    for key, value in basic.items():
        assert value == before["pipeline"][key]


@pytest.mark.parametrize(("argument", "value"), [("num_negatives", 0), ("epochs", 0), ("seed", -1)])
def test_with_sampler_checks(argument: str, value: int):
    with pytest.raises(ValueError, match=f"{argument}={value}"):
        with_sampler(load_recipe("umls-complex"), "basic", **{argument: value})


class _Samplers(TrainingCallback):
    """Note the class of the sampler that is used."""

    def pre_batch(self, **kwargs: object) -> None:
        self.sampler = self.training_loop.negative_sampler
        self.options = self.training_loop.negative_sampler_kwargs


@pytest.mark.parametrize(
    ("name", "sampler"),
    [("umls-complex", DiffusionAdaptiveNegativeSampler), ("umls-distmult-dans", TwoWayGANNegativeSampler)],
)
def test_runs(name: str, sampler: type[GeneratedNegativeSampler], isolated_cache, monkeypatch):
    losses = []
    add_gradient = LatentLoss.add_gradient

    def record(self: LatentLoss, **kwargs: Any) -> float:
        losses.append(add_gradient(self, **kwargs))
        return losses[-1]

    monkeypatch.setattr(LatentLoss, "add_gradient", record)
    recipe = load_recipe(name)
    training = recipe["pipeline"]["training_kwargs"]
    # the curriculum ends with the last epoch, so that there is something to generate after the first of two only
    training.update(num_epochs=2, use_tqdm=False)
    witness = _Samplers()
    training["callbacks"] = [training["callbacks"], witness]
    # a number of queries rather than a time, which a busy machine may not have
    options = training.get("callbacks_kwargs", {})
    training["callbacks_kwargs"] = [{**options, "fit_steps": 1, "refresh_queries": 1024}, None]
    recipe["pipeline"]["random_seed"] = 0
    result = pipeline_from_config(recipe, evaluation_kwargs={"use_tqdm": False})
    assert witness.sampler is sampler
    # what is generated is either decoded into the bank, or scored itself
    latent = "latent_weight" in options
    assert (witness.options["coupling"].engine.bank.filled > 0) != latent
    assert any(losses) == latent
    assert math.isfinite(result.losses[-1])
    assert 0 < result.get_metric("both.realistic.inverse_harmonic_mean_rank") < 1
