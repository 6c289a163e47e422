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
from pykeen_dans.training.vector_loss import VectorLoss


@pytest.mark.parametrize("name", recipe_names())
def test_pykeen_accepts(name: str):
    assert get_configuration_errors(recipe_path(name)) == []
    recipe = load_recipe(name)
    metadata, pipeline = recipe["metadata"], recipe["pipeline"]
    assert name.startswith(f"{pipeline['dataset']}-{pipeline['model'].lower()}")
    assert metadata["trials"] >= 0
    # with inverse triples, the model ranks heads as tails of the inverse relation
    sides = ["tail"] if pipeline["dataset_kwargs"]["create_inverse_triples"] else ["head", "tail"]
    assert pipeline.get("negative_sampler_kwargs", {}).get("corruption_scheme", sides) == sides
    # other samplers get as many negatives as there are with the vectors
    others = with_sampler(recipe, "basic")["pipeline"]
    number = metadata.get("num_negatives", pipeline.get("negative_sampler_kwargs", {}).get("num_negs_per_pos"))
    assert others["negative_sampler_kwargs"].get("num_negs_per_pos") == number


def test_each_paper_has_recipes():
    samplers = {load_recipe(name)["pipeline"].get("negative_sampler") for name in recipe_names()}
    assert samplers >= {"diffusionadaptive", "twowaygan", "hierarchical"}


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
    add_gradient = VectorLoss.add_gradient

    def record(self: VectorLoss, **kwargs: Any) -> float:
        losses.append(add_gradient(self, **kwargs))
        return losses[-1]

    monkeypatch.setattr(VectorLoss, "add_gradient", record)
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
    latent = "vector_weight" in options
    assert (witness.options["coupling"].engine.bank.filled > 0) != latent
    assert any(losses) == latent
    assert math.isfinite(result.losses[-1])
    assert 0 < result.get_metric("both.realistic.inverse_harmonic_mean_rank") < 1
