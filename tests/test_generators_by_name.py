"""Generators are chosen by name, with options of their own, in samplers, pipelines and PyKEEN's experiments."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from pykeen.pipeline import pipeline_from_config
from pykeen.sampling import negative_sampler_resolver
from pykeen.trackers import PythonResultTracker

from pykeen_dans import CurriculumTrainingCallback
from pykeen_dans.engine.coupling import Coupling
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.generators import (
    DiffusionGenerator,
    Generator,
    PriorGenerator,
    RidgeGenerator,
    TwoWayGANGenerator,
    UniformGenerator,
    generator_resolver,
)
from pykeen_dans.graph import Graph
from pykeen_dans.multimodal.generator import HierarchicalGenerator
from pykeen_dans.multimodal.published import PublishedHierarchicalGenerator
from pykeen_dans.training import callback

from .trainings import COUNTED, last_engine, make_loop, metrics_of, run_pipeline, train
from .utils import batch_of, check_negatives, from_bank, make_sampler, small, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

CLASSES: dict[str, type[Generator]] = {
    "diffusion": DiffusionGenerator,
    "two-way-gan": TwoWayGANGenerator,
    "hierarchical": HierarchicalGenerator,
    "published-hierarchical": PublishedHierarchicalGenerator,
    "prior": PriorGenerator,
    "ridge": RidgeGenerator,
    "uniform": UniformGenerator,
}
#: An option of each, of which its instance tells that it has come there
OPTIONS: dict[str, tuple[dict[str, Any], Any]] = {
    "diffusion": (dict(learning_rate=0.125), lambda made: made.learning_rate),
    "two-way-gan": (dict(sigma=0.125), lambda made: made.sigma),
    "hierarchical": (dict(learning_rate=0.125), lambda made: made.learning_rate),
    "published-hierarchical": (dict(learning_rate=0.125), lambda made: made.learning_rate),
    "prior": (dict(sigma=0.125), lambda made: made.sigma),
    "ridge": (dict(beta_global=0.125), lambda made: made.schedule.beta_global),
}


def test_names() -> None:
    assert {generator_resolver.lookup(name) for name in CLASSES} == set(CLASSES.values()) == set(generator_resolver)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("sampler", ["dans_kgc", "dans", "dhns"])
def test_each_sampler_takes_each_generator(sampler: str, name: str) -> None:
    """The samplers differ in their defaults, not in what they can do."""
    made = make_sampler("umls", sampler, generator=name, num_negs_per_pos=4, share=1.0)
    positives = batch_of("umls", 200)
    if name == "uniform":
        assert not made.engine.generates
        check_negatives(made.corrupt_batch(positives), positives, "umls")
        return
    assert type(made.engine.generator) is CLASSES[name]
    negatives, generated = from_bank(made, positives)
    check_negatives(negatives, positives, "umls")
    assert generated.float().mean() > 0.8


@pytest.mark.parametrize("as_class", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_options_reach_the_generator(name: str, as_class: bool) -> None:
    options, get = OPTIONS[name]
    kwargs = small(generator=name, generator_kwargs=options)
    made = _make("dans_kgc", **{**kwargs, "generator": CLASSES[name] if as_class else name})
    assert get(made.engine.generator) == 0.125


@pytest.mark.parametrize("name", CLASSES)
def test_experiments(name: str) -> None:
    """A configuration that is all JSON names the generator, and the callback tells what it did."""
    tracker = PythonResultTracker()
    config = {
        "metadata": {},
        "pipeline": {
            "dataset": "nations",
            "model": "TransE",
            "model_kwargs": {"embedding_dim": 8},
            "negative_sampler": "dans_kgc",
            "negative_sampler_kwargs": small(generator=name, num_negs_per_pos=4, share=0.5),
            "training_kwargs": {
                "num_epochs": 2,
                "batch_size": 512,
                "use_tqdm": False,
                "callbacks": "curriculum",
                "callbacks_kwargs": COUNTED,
            },
            "evaluation_kwargs": {"use_tqdm": False, "batch_size": 64},
            "random_seed": 0,
        },
    }
    result = pipeline_from_config(json.loads(json.dumps(config)), result_tracker=tracker)
    assert len(result.losses) == 2
    engine = last_engine(result.training_loop)
    assert type(engine._probe) is CLASSES[name]
    generates, learns = name != "uniform", name not in {"uniform", "prior", "ridge"}
    assert metrics_of(tracker, "fit_steps") == {1: 2 * learns, 2: 2 * learns}
    assert (metrics_of(tracker, "generated")[2] > 0) == generates
    assert result.configuration["negative_sampler_kwargs"]["generator"] == name


# The control


def test_uniform_draws_what_an_empty_bank_would() -> None:
    """The control draws the very same negatives as a sampler that has found nothing, and as one without a share."""
    uniform = make_sampler(generator="uniform", num_negs_per_pos=5, share=0.5)
    empty = make_sampler(num_negs_per_pos=5, share=0.5)
    empty.engine.bank.ids.fill_(-1)
    none = make_sampler(num_negs_per_pos=5, share=0.0)
    positives = batch_of("umls", 300)
    for seed in range(3):
        drawn = []
        for sampler in (uniform, empty, none):
            torch.manual_seed(seed)
            drawn.append(sampler.corrupt_batch(positives))
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2])
    assert uniform.num_generated == 0
    assert uniform.engine.take_counts() == {"generated": 0, "fallback": 0}


@pytest.mark.parametrize("coupled", [False, True])
def test_uniform_costs_nothing(coupled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained, embedded, generated or kept, and the losses are those of a share of 0."""
    losses = train(make_loop(sampler_kwargs=dict(share=0.0)), callbacks_kwargs=dict(fit_steps=0, refresh_queries=0))

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("there is nothing to do")

    monkeypatch.setattr(GenerationEngine, "update", fail)
    monkeypatch.setattr(GenerationEngine, "bank", property(fail))
    monkeypatch.setattr(Graph, "reference", property(fail))
    monkeypatch.setattr(callback, "live_space", fail)
    tracker = PythonResultTracker()
    loop = make_loop(sampler_kwargs=dict(generator="uniform", share=0.9), tracker=tracker)
    if coupled:
        callbacks = CurriculumTrainingCallback(vector_weight=1.0, refresh_budget=10.0)
        assert train(loop, callbacks=callbacks, callbacks_kwargs=None) == losses
        for name in ("fit_steps", "refreshed", "generated", "fallback"):
            assert metrics_of(tracker, name) == {1: 0, 2: 0, 3: 0}
        assert max(metrics_of(tracker, "overhead_seconds").values()) < 0.1
    else:
        assert train(loop, callbacks=None, callbacks_kwargs=None) == losses


# Errors


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("sampler", ["dans_kgc", "dans", "dhns"])
def test_unknown_generator(sampler: str, coupled: bool) -> None:
    """Whoever misspells a name is told the valid ones."""
    names = ", ".join(sorted(generator_resolver.options))
    assert {name.replace("-", "") for name in CLASSES} == set(generator_resolver.options)
    with pytest.raises(ValueError, match=f"generator='difusion' is unknown; choose one of {names}"):
        _make(sampler, coupling=Coupling() if coupled else None, generator="difusion")


def _make(sampler: str, **kwargs: Any) -> Any:
    """Make a sampler with its own defaults."""
    return negative_sampler_resolver.make(sampler, kwargs, mapped_triples=training_of("nations").mapped_triples)


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize(
    ("sampler", "generator", "options", "message"),
    [
        ("dans_kgc", None, dict(sigma=0.1), r"has sigma, which DiffusionGenerator does not take; it takes .*bands, .*"),
        ("dans_kgc", "ridge", dict(hidden_dim=8, trained=True), r"has hidden_dim, trained, which RidgeGenerator does"),
        (
            "dans_kgc",
            "prior",
            dict(film=True),
            r"which PriorGenerator does not take; it takes distances, pathways, sigm",
        ),
        ("dans_kgc", "uniform", dict(sigma=0.1), r"has sigma, which UniformGenerator does not take; it takes none"),
        (
            "dans",
            None,
            dict(bands=(3, 2)),
            r"has bands, which TwoWayGANGenerator does not take; it takes batch_size, .*",
        ),
        ("dhns", None, dict(film=True), r"has film, which HierarchicalGenerator does not take; it takes .*num_steps"),
        # what the engine, or the sampler, gives itself
        ("dans_kgc", None, dict(num_bands=3), r"has num_bands, which DiffusionGenerator does not take"),
        ("dans_kgc", None, dict(dim=3), r"has dim, which DiffusionGenerator does not take"),
        ("dans_kgc", None, dict(num_relations=3), r"has num_relations, which DiffusionGenerator does not take"),
        ("dans_kgc", None, [1], r"generator_kwargs=\[1\] is no mapping"),
    ],
)
def test_option_that_this_generator_lacks(
    sampler: str, generator: str | None, options: Any, message: str, coupled: bool
) -> None:
    """An option of another generator is refused, with those that there are, before anything is made."""
    chosen = {} if generator is None else {"generator": generator}
    with pytest.raises(ValueError, match=message):
        _make(sampler, coupling=Coupling() if coupled else None, generator_kwargs=options, **chosen)


def test_unknown_generator_in_a_pipeline() -> None:
    """PyKEEN hands the messages through."""
    with pytest.raises(ValueError, match=r"generator='gan' is unknown; choose one of .*twowaygan"):
        run_pipeline(negative_sampler_kwargs=dict(generator="gan"))
    with pytest.raises(ValueError, match="generator_kwargs has nonsense, which DiffusionGenerator does not take"):
        run_pipeline(
            training_loop="dans-kgc",
            negative_sampler=None,
            training_kwargs={},
            negative_sampler_kwargs=dict(generator_kwargs=dict(nonsense=1)),
        )
