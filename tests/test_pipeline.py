"""PyKEEN's pipelines with our names in them: optimising hyper-parameters, and results that are saved and run again."""

from __future__ import annotations

import inspect
import json
import pathlib
from typing import Any

import pytest
from pykeen.hpo import hpo_pipeline
from pykeen.hpo.hpo import HpoPipelineResult, suggest_kwargs
from pykeen.pipeline import pipeline, pipeline_from_config
from pykeen.sampling import NegativeSampler

from pykeen_dans.sampling import (
    DiffusionAdaptiveNegativeSampler,
    GeneratedNegativeSampler,
    HierarchicalNegativeSampler,
    TwoWayGANNegativeSampler,
)

from .utils import SMALL, SMALL_GAN, make_gan_sampler, make_sampler

optuna = pytest.importorskip("optuna")

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

SAMPLERS: tuple[type[GeneratedNegativeSampler], ...] = (
    DiffusionAdaptiveNegativeSampler,
    TwoWayGANNegativeSampler,
    HierarchicalNegativeSampler,
)


@pytest.mark.parametrize("cls", SAMPLERS)
def test_hpo_default(cls: type[GeneratedNegativeSampler]) -> None:
    """By default our own parameters are optimised, too; each is an argument, and PyKEEN can draw a value for it."""
    assert set(NegativeSampler.hpo_default) < set(cls.hpo_default)
    # PyKEEN looks no further for the names of arguments
    named = {*inspect.signature(cls).parameters, *inspect.signature(cls.__bases__[0]).parameters}
    assert set(cls.hpo_default) <= named
    assert not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    chosen = suggest_kwargs(trial, prefix="negative_sampler", kwargs_ranges=cls.hpo_default)
    assert set(chosen) == set(cls.hpo_default)


@pytest.mark.parametrize("seed", range(3))
def test_hpo_default_values_are_valid(seed: int) -> None:
    """Whatever is drawn by default makes a sampler."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    ranges = DiffusionAdaptiveNegativeSampler.hpo_default
    chosen = suggest_kwargs(study.ask(), prefix="negative_sampler", kwargs_ranges=ranges)
    fixed = {} if chosen["difficulty"] == "learned" else dict(difficulty_kwargs=None)
    sampler = make_sampler("nations", **{**chosen, **fixed})
    assert sampler.num_negs_per_pos == chosen["num_negs_per_pos"]


@pytest.mark.parametrize("seed", range(3))
def test_hpo_default_values_of_the_gan_are_valid(seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    ranges = TwoWayGANNegativeSampler.hpo_default
    chosen = suggest_kwargs(study.ask(), prefix="negative_sampler", kwargs_ranges=ranges)
    assert make_gan_sampler("nations", **chosen).num_negs_per_pos == chosen["num_negs_per_pos"]


def optimise(**kwargs: Any) -> HpoPipelineResult:
    """Run a study of two trials."""
    kwargs.setdefault("negative_sampler", "dans_kgc")
    return hpo_pipeline(
        dataset="nations",
        model="TransE",
        model_kwargs=dict(embedding_dim=8),
        training_loop="slcwa",
        training_kwargs=dict(num_epochs=2, batch_size=256, use_tqdm=False),
        evaluation_kwargs=dict(use_tqdm=False, batch_size=64),
        n_trials=2,
        metric="mrr",
        direction="maximize",
        sampler="random",
        device="cpu",
        **kwargs,
    )


def parameters(result: HpoPipelineResult) -> list[dict[str, Any]]:
    """Get the sampler's parameters in each trial."""
    trials = result.study.trials
    assert [trial.state for trial in trials] == [optuna.trial.TrialState.COMPLETE] * 2
    prefix = "negative_sampler."
    return [{k.removeprefix(prefix): v for k, v in t.params.items() if k.startswith(prefix)} for t in trials]


def test_hpo_with_ranges() -> None:
    """Ranges of our own parameters are used instead of the default ones, beside fixed values."""
    fixed = {key: value for key, value in SMALL.items() if key not in {"num_slots", "curriculum"}}
    result = optimise(
        negative_sampler_kwargs=dict(fixed, num_negs_per_pos=2, num_steps=3, learning_rate=1e-3, condition_dropout=0.1)
        | dict(difficulty="learned"),
        negative_sampler_kwargs_ranges=dict(
            num_slots=dict(type=int, low=4, high=6),
            curriculum=dict(type="categorical", choices=["step", "cosine"]),
            conditioned=dict(type=bool),
        ),
    )
    for chosen in parameters(result):
        assert set(chosen) == {"num_slots", "curriculum", "conditioned"}
        assert 4 <= chosen["num_slots"] <= 6
        assert chosen["curriculum"] in {"step", "cosine"}


def test_hpo_of_the_gan() -> None:
    """Options of the two-way GAN are optimised beside fixed ones."""
    fixed = {key: value for key, value in SMALL_GAN.items() if key not in {"num_slots", "curriculum"}}
    result = optimise(
        negative_sampler="dans",
        negative_sampler_kwargs=dict(fixed, num_negs_per_pos=2, curriculum="constant", num_slots=8)
        | dict.fromkeys(set(TwoWayGANNegativeSampler.hpo_default) & {"film_weight", "pathway_weight"}, 0.5)
        | dict(conditional=False, generator_learning_rate=1e-3, discriminator_learning_rate=1e-3),
        negative_sampler_kwargs_ranges=dict(sigma=dict(type=float, low=0.0, high=1.0), film=dict(type=bool)),
    )
    for chosen in parameters(result):
        assert set(chosen) == {"sigma", "film"}


def test_hpo_of_an_unknown_parameter() -> None:
    """A range for something that is no parameter is an error, not ignored."""
    with pytest.raises(ValueError, match="num_slotz"):
        optimise(negative_sampler_kwargs_ranges=dict(num_slotz=dict(type=int, low=1, high=2)))


@pytest.mark.slow
def test_hpo_with_defaults(tmp_path: pathlib.Path) -> None:
    """Without any ranges, the default ones are used, and the best pipeline can be saved and run."""
    fixed = {key: SMALL[key] for key in ("fit_steps", "batch_size", "reference_kwargs")}
    result = optimise(negative_sampler_kwargs=fixed)
    for chosen in parameters(result):
        assert set(chosen) == set(DiffusionAdaptiveNegativeSampler.hpo_default)
    result.save_to_directory(tmp_path)
    config = json.loads((tmp_path / "best_pipeline" / "pipeline_config.json").read_text())
    assert config["pipeline"]["negative_sampler"] == "diffusionadaptive"
    assert len(pipeline_from_config(config).losses) == 2


@pytest.mark.parametrize(
    ("sampler", "options", "name"),
    [
        ("dans_kgc", SMALL, "DiffusionAdaptiveNegativeSampler"),
        ("dans", SMALL_GAN, "TwoWayGANNegativeSampler"),
    ],
)
def test_saved_results(sampler: str, options: dict[str, Any], name: str, tmp_path: pathlib.Path) -> None:
    """The results of a pipeline can be saved, and its configuration tells how the negatives were made."""
    result = pipeline(
        dataset="nations",
        model="TransE",
        model_kwargs=dict(embedding_dim=8),
        negative_sampler=sampler,
        negative_sampler_kwargs=options,
        training_kwargs=dict(
            num_epochs=2, batch_size=256, use_tqdm=False, callbacks="curriculum", callbacks_kwargs=dict(fit_steps=1)
        ),
        evaluation_kwargs=dict(use_tqdm=False, batch_size=64),
        device="cpu",
        random_seed=0,
    )
    result.save_to_directory(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["losses"] == result.losses
    assert result.configuration["negative_sampler"] == name
    assert result.configuration["negative_sampler_kwargs"] == options
