"""PyKEEN's pipelines with our names in them: optimising hyper-parameters, and results that are saved and run again."""

from __future__ import annotations

import inspect
import json
import pathlib
from typing import Any

import pytest
from pykeen.hpo import hpo_pipeline
from pykeen.hpo.hpo import HpoPipelineResult, suggest_kwargs
from pykeen.pipeline import pipeline_from_config
from pykeen.sampling import NegativeSampler

from pykeen_dans.generators import DiffusionGenerator, generator_resolver
from pykeen_dans.sampling import (
    DiffusionAdaptiveNegativeSampler,
    GeneratedNegativeSampler,
    HierarchicalNegativeSampler,
    TwoWayGANNegativeSampler,
)

from .trainings import run_pipeline
from .utils import make_sampler, parameters_of, small

optuna = pytest.importorskip("optuna")

pytestmark = [
    pytest.mark.usefixtures("shared_cache", "no_engines"),
    # what Optuna says of dictionaries as choices concerns its storages alone
    pytest.mark.filterwarnings("ignore:Choices for a categorical distribution should be a tuple"),
]

SAMPLERS: dict[str, type[GeneratedNegativeSampler]] = {
    "dans_kgc": DiffusionAdaptiveNegativeSampler,
    "dans": TwoWayGANNegativeSampler,
    "dhns": HierarchicalNegativeSampler,
}


@pytest.mark.parametrize("cls", SAMPLERS.values())
def test_hpo_default(cls: type[GeneratedNegativeSampler]) -> None:
    """By default our own parameters are optimised, too; each is an argument, and PyKEEN finds its name."""
    assert set(NegativeSampler.hpo_default) < set(cls.hpo_default)
    assert set(cls.hpo_default) <= set(parameters_of(cls))
    # PyKEEN looks no further for the names of arguments
    named = {*inspect.signature(cls).parameters, *inspect.signature(cls.__bases__[0]).parameters}
    assert set(parameters_of(cls)) <= named


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SAMPLERS)
def test_hpo_default_values_are_valid(name: str, seed: int) -> None:
    """Whatever is drawn by default makes a sampler."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    ranges = SAMPLERS[name].hpo_default
    chosen = suggest_kwargs(study.ask(), prefix="negative_sampler", kwargs_ranges=ranges)
    assert set(chosen) == set(ranges)
    sampler = make_sampler("nations", name, **chosen)
    assert (sampler.num_negs_per_pos, sampler.share) == (chosen["num_negs_per_pos"], chosen["share"])


def optimise(sampler: str = "dans_kgc", **kwargs: Any) -> HpoPipelineResult:
    """Run a study of two trials."""
    return hpo_pipeline(
        dataset="nations",
        model="TransE",
        model_kwargs=dict(embedding_dim=8),
        training_loop="slcwa",
        negative_sampler=sampler,
        training_kwargs=dict(num_epochs=2, batch_size=256, use_tqdm=False) | kwargs.pop("training_kwargs", {}),
        evaluation_kwargs=dict(use_tqdm=False, batch_size=64),
        n_trials=2,
        metric="mrr",
        direction="maximize",
        sampler="random",
        sampler_kwargs=dict(seed=6),
        device="cpu",
        **kwargs,
    )


def parameters(result: HpoPipelineResult) -> list[dict[str, Any]]:
    """Get the sampler's parameters in each trial."""
    trials = result.study.trials
    assert [trial.state for trial in trials] == [optuna.trial.TrialState.COMPLETE] * 2
    prefix = "negative_sampler."
    return [{k.removeprefix(prefix): v for k, v in t.params.items() if k.startswith(prefix)} for t in trials]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[GeneratedNegativeSampler]:
    """Collect the samplers that are made."""
    made: list[GeneratedNegativeSampler] = []
    make_engine = GeneratedNegativeSampler._make_engine

    def recording(self: GeneratedNegativeSampler, *args: Any, **kwargs: Any) -> Any:
        made.append(self)
        return make_engine(self, *args, **kwargs)

    monkeypatch.setattr(GeneratedNegativeSampler, "_make_engine", recording)
    return made


@pytest.mark.parametrize("coupled", [False, True])
def test_hpo_of_sampler_and_generator(coupled: bool, used: list[GeneratedNegativeSampler]) -> None:
    """A study varies an option of the sampler and those of its generator, and its trials are made with them."""
    choices = [
        small(generator_kwargs=dict(num_steps=num_steps, learning_rate=learning_rate))["generator_kwargs"]
        for num_steps, learning_rate in ((1, 0.5), (2, 0.25), (7, 0.125))
    ]
    fixed = {key: value for key, value in small().items() if key != "generator_kwargs"}
    callbacks = dict(callbacks="curriculum", callbacks_kwargs=dict(fit_steps=1, refresh_queries=100))
    result = optimise(
        negative_sampler_kwargs=dict(fixed, num_negs_per_pos=4, curriculum="constant"),
        negative_sampler_kwargs_ranges=dict(
            share=dict(type=float, low=0.25, high=1.0, q=0.25),
            generator_kwargs=dict(type="categorical", choices=choices),
        ),
        training_kwargs=callbacks if coupled else {},
    )
    trials = parameters(result)
    assert all(set(trial) == {"share", "generator_kwargs"} for trial in trials)
    # the seed is such that both differ
    assert trials[0]["share"] != trials[1]["share"]
    assert trials[0]["generator_kwargs"]["num_steps"] != trials[1]["generator_kwargs"]["num_steps"]
    found = []
    for sampler in used:
        generator = sampler.engine.generator
        assert isinstance(generator, DiffusionGenerator)
        assert (sampler.coupling is not None) == coupled
        assert sampler.num_generated == 4 * sampler.share
        found.append((sampler.share, generator.process(0).num_steps, generator.learning_rate))
    # PyKEEN makes several samplers in each trial
    assert list(dict.fromkeys(found)) == [
        (trial["share"], trial["generator_kwargs"]["num_steps"], trial["generator_kwargs"]["learning_rate"])
        for trial in trials
    ]


def test_hpo_of_generators(used: list[GeneratedNegativeSampler]) -> None:
    """The generator itself may be varied, where its options are the default ones."""
    fixed = {key: value for key, value in small("dans", num_negs_per_pos=4).items() if key != "generator_kwargs"}
    result = optimise(
        "dans",
        negative_sampler_kwargs=fixed,
        negative_sampler_kwargs_ranges=dict(generator=dict(type="categorical", choices=["uniform", "prior"])),
    )
    names = [trial["generator"] for trial in parameters(result)]
    # the seed is such that both differ
    assert set(names) == {"prior", "uniform"}
    made = [type(sampler.engine._probe) for sampler in used]
    assert list(dict.fromkeys(made)) == [generator_resolver.lookup(name) for name in names]


@pytest.mark.parametrize("name", ["num_slotz", "hidden_dim"])
def test_hpo_of_an_unknown_parameter(name: str) -> None:
    """A range for something that is no parameter of the sampler is an error, not ignored."""
    with pytest.raises(ValueError, match=name):
        optimise(negative_sampler_kwargs_ranges={name: dict(type=int, low=1, high=2)})


@pytest.mark.parametrize("name", SAMPLERS)
def test_hpo_with_defaults(name: str, tmp_path: pathlib.Path) -> None:
    """Without any ranges, the default ones are used, and the best pipeline can be saved and run."""
    fixed = {key: value for key, value in small(name).items() if key != "num_slots"}
    result = optimise(name, negative_sampler_kwargs=fixed)
    for chosen in parameters(result):
        assert set(chosen) == set(SAMPLERS[name].hpo_default)
    result.save_to_directory(tmp_path)
    config = json.loads((tmp_path / "best_pipeline" / "pipeline_config.json").read_text())
    assert config["pipeline"]["negative_sampler"] == SAMPLERS[name].get_normalized_name()
    assert config["pipeline"]["negative_sampler_kwargs"]["generator_kwargs"] == fixed["generator_kwargs"]
    assert len(pipeline_from_config(config).losses) == 2


@pytest.mark.parametrize("name", SAMPLERS)
def test_saved_results(name: str, tmp_path: pathlib.Path) -> None:
    """The results of a pipeline can be saved, and its configuration tells how the negatives were made."""
    options = small(name)
    result = run_pipeline(epochs=2, negative_sampler=name, negative_sampler_kwargs=options)
    result.save_to_directory(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["losses"] == result.losses
    assert result.configuration["negative_sampler"] == SAMPLERS[name].__name__
    assert result.configuration["negative_sampler_kwargs"] == options
