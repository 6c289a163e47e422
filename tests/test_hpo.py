"""Studies of hyper-parameters over the training loops of this package search and use their sampler."""

from __future__ import annotations

import functools
import json
import pathlib
import types
from typing import Any

import pykeen
import pytest
from pykeen.ablation import ablation_pipeline
from pykeen.hpo import hpo_pipeline
from pykeen.pipeline import pipeline

from pykeen_dans import HierarchicalNegativeSampler
from pykeen_dans.sampling import GeneratedNegativeSampler

from .trainings import COUNTED
from .utils import small

#: No searches for sizes, in which further samplers are made
SIZES = dict(automatic_memory_optimization=False)

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[GeneratedNegativeSampler]:
    """Collect the samplers that are made."""
    samplers: list[GeneratedNegativeSampler] = []
    original = GeneratedNegativeSampler.__init__

    @functools.wraps(original)
    def spy(self: GeneratedNegativeSampler, **kwargs: Any) -> None:
        original(self, **kwargs)
        samplers.append(self)

    monkeypatch.setattr(GeneratedNegativeSampler, "__init__", spy)
    return samplers


def study(loop: str = "dans-kgc", **kwargs: Any) -> Any:
    options = dict(
        dataset="nations",
        model="DistMult",
        model_kwargs=dict(embedding_dim=8),
        loss="crossentropy",
        optimizer_kwargs=dict(lr=0.01),
        training_loop=loop,
        training_loop_kwargs=SIZES,
        training_kwargs=dict(
            num_epochs=1, batch_size=256, use_tqdm=False, callbacks="curriculum", callbacks_kwargs=dict(COUNTED)
        ),
        evaluation_kwargs=dict(use_tqdm=False, batch_size=64),
        device="cpu",
        n_trials=1,
        sampler="random",
        sampler_kwargs=dict(seed=0),
    )
    return hpo_pipeline(**{**options, **kwargs})


@pytest.mark.parametrize(("loop", "of_loop"), [("curriculum", {}), ("dans-kgc", dict(num_shared=6))])
def test_study(
    loop: str, of_loop: dict[str, Any], made: list[GeneratedNegativeSampler], tmp_path: pathlib.Path
) -> None:
    """Trials have the sampler, its options and its ranges; what is saved is what was done."""
    fixed = small("dhns", num_slots=8, random_state=0)
    if loop == "curriculum":
        fixed |= dict(num_negs_per_pos=7, share=0.5)
    result = study(
        loop,
        training_loop_kwargs=SIZES | of_loop,
        negative_sampler="dhns",
        negative_sampler_kwargs=fixed,
        negative_sampler_kwargs_ranges=dict(min_candidates=dict(type=int, low=1, high=6)),
        n_trials=2,
    )
    trials = result.study.trials
    assert all(trial.state.name == "COMPLETE" for trial in trials)
    # what has no effect where negatives are shared is not searched
    of_sampler = {name for name in trials[0].params if name.startswith("negative_sampler")}
    assert of_sampler == {"negative_sampler.min_candidates", "negative_sampler.curriculum"}
    searched = [trial.params["negative_sampler.min_candidates"] for trial in trials]
    assert all(type(sampler) is HierarchicalNegativeSampler for sampler in made)
    assert [sampler.engine.settings.min_candidates for sampler in made] == searched
    assert {sampler.engine.settings.num_slots for sampler in made} == {8}
    if loop == "curriculum":
        assert {sampler.num_negs_per_pos for sampler in made} == {7}
    # the configuration of the best trial, as it is saved, gives the figures of the best trial
    result.save_to_directory(tmp_path)
    config = json.loads((tmp_path / "best_pipeline" / "pipeline_config.json").read_text())["pipeline"]
    best = result.study.best_trial
    seed = best.user_attrs["random_seed"]
    again = pipeline(**config, random_seed=seed, use_testing_data=False, device="cpu")
    assert again.metric_results.get_metric(result.objective.metric) == pytest.approx(best.value)
    made.clear()
    result.replicate_best_pipeline(directory=tmp_path / "replicates", replicates=1, save_replicates=False)
    assert [sampler.engine.settings.min_candidates for sampler in made] == [searched[best.number]]
    assert type(made[0]) is HierarchicalNegativeSampler


def test_sampler_of_the_loop(made: list[GeneratedNegativeSampler]) -> None:
    """Without a sampler, options and ranges are for that of the loop, which may also be named among its options."""
    study("dhns", negative_sampler_kwargs=small("dhns"))
    study(
        training_loop_kwargs=SIZES
        | dict(num_shared=6, negative_sampler="dhns", negative_sampler_kwargs=small("dhns", num_slots=4))
    )
    assert [type(sampler) for sampler in made] == [HierarchicalNegativeSampler] * 2
    assert made[1].engine.settings.num_slots == 4


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(negative_sampler="dhns", negative_sampler_kwargs=dict(nonsense=1)), "nonsense"),
        (dict(negative_sampler_kwargs_ranges=dict(nonsense=dict(type=int, low=1, high=2))), "nonsense"),
        (dict(negative_sampler="nonsense"), "nonsense"),
        (
            dict(loop="shared-negatives", negative_sampler_kwargs_ranges=dict(num_slots=dict(type=int, low=1, high=2))),
            "negative_sampler_kwargs_ranges=.* has nothing to search",
        ),
    ],
    ids=str,
)
def test_nonsense(kwargs: dict[str, Any], message: str) -> None:
    """What nobody takes is an error, rather than being dropped."""
    with pytest.raises((ValueError, TypeError, KeyError), match=message):
        study(**kwargs)


def test_other_loops_are_not_touched() -> None:
    """Studies of PyKEEN's own loops are what they were."""
    training = dict(num_epochs=1, batch_size=256, use_tqdm=False)
    result = study("slcwa", loss="marginranking", negative_sampler="basic", training_kwargs=training)
    assert {"negative_sampler.num_negs_per_pos", "loss.margin"} <= set(result.study.best_params)
    result = study("lcwa", training_kwargs=training)
    assert not any(name.startswith("negative_sampler") for name in result.study.best_params)


@pytest.mark.slow
def test_ablation(made: list[GeneratedNegativeSampler], tmp_path: pathlib.Path) -> None:
    """An ablation study compares loops; PyKEEN hands it the options of the sampler, but not its name."""
    of_loops = {"DistMult": {"shared-negatives": dict(num_shared=6), "dhns": dict(num_shared=6)}}
    training = dict(num_epochs=1, batch_size=256)
    ablation_pipeline(
        directory=tmp_path,
        datasets="nations",
        models="DistMult",
        losses="crossentropy",
        optimizers="adam",
        training_loops=["shared-negatives", "dhns"],
        negative_sampler="dhns",
        model_to_model_kwargs={"DistMult": dict(embedding_dim=8)},
        model_to_training_loop_to_training_loop_kwargs=of_loops,
        model_to_training_loop_to_training_kwargs={"DistMult": dict.fromkeys(of_loops["DistMult"], training)},
        model_to_negative_sampler_to_negative_sampler_kwargs={"DistMult": {"dhns": small("dhns", num_slots=4)}},
        evaluator_kwargs=dict(filtered=True),
        evaluation_kwargs=dict(batch_size=64),
        create_inverse_triples=False,
        metric="mrr",
        n_trials=1,
        sampler="random",
        best_replicates=1,
    )
    assert made
    assert all(type(sampler) is HierarchicalNegativeSampler for sampler in made)
    assert {sampler.engine.settings.num_slots for sampler in made} == {4}


def test_nothing_waits_any_more() -> None:
    """Once PyKEEN's studies are imported, its module is an ordinary one again."""
    assert type(pykeen) is types.ModuleType
