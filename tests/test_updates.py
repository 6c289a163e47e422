"""The engine's one call between epochs, its options, and what comes of it on real UMLS."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import math
from typing import Any

import pytest
import torch
from pykeen.datasets import get_dataset
from pykeen.models import ComplEx, TransE
from pykeen.trackers import PythonResultTracker
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory

from pykeen_dans.engine.coupling import Coupling
from pykeen_dans.engine.curriculum import curriculum_resolver
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.engine.settings import EngineSettings, UpdateBudget
from pykeen_dans.engine.steering import HardnessSteering
from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.space import live_space

from .toys import NUM_ENTITIES, NUM_RELATIONS, clustered_triples, make_engine, seeded

SMALL = UpdateBudget(fit_steps=2, refresh_queries=20)


def toy_model() -> TransE:
    factory = CoreTriplesFactory(clustered_triples(), num_entities=NUM_ENTITIES, num_relations=NUM_RELATIONS)
    return TransE(triples_factory=factory, embedding_dim=8, random_seed=0)


def update(engine: GenerationEngine, budget: UpdateBudget = SMALL) -> dict[str, float]:
    model = toy_model()
    return engine.update(live_space(model), model, budget).metrics


# What an update does


@pytest.mark.parametrize(
    ("budget", "steps", "queries"),
    [
        (UpdateBudget(fit_steps=3, refresh_queries=7), 3, 7),
        (UpdateBudget(fit_steps=0, refresh_queries=0), 0, 0),
        # what is counted is not ended by the time
        (UpdateBudget(seconds=0.0, fit_steps=3, refresh_queries=7), 3, 7),
        # however little time there is, the network takes its least number of steps
        (UpdateBudget(seconds=0.0, least_fit_steps=5, refresh_queries=7), 5, 7),
        (UpdateBudget(seconds=1e-9, fit_share=0.0, least_fit_steps=5, refresh_queries=0), 5, 0),
        (UpdateBudget(seconds=0.0, refresh_queries=7), 0, 7),
    ],
    ids=str,
)
def test_an_update_costs_what_it_may(budget: UpdateBudget, steps: int, queries: int) -> None:
    engine = make_engine()
    model = toy_model()
    report = engine.update(live_space(model), model, budget)
    assert (report.fit.steps, report.refresh.queries) == (steps, queries)
    assert (engine.bank.ids >= 0).flatten(1).any(dim=1).sum() == queries
    assert report.metrics["fit_steps"] == steps
    assert report.metrics["refreshed"] == queries


def test_however_short_the_time_is_something_is_refreshed() -> None:
    assert update(make_engine(), UpdateBudget(seconds=0.0, least_fit_steps=1))["refreshed"] > 0


def test_the_steps_go_on_from_update_to_update() -> None:
    """One generator is trained in all of them, rather than a new one in each."""
    engine = make_engine()
    update(engine)
    first, weight = engine.generator, [p.detach().clone() for p in engine.generator.parameters()]  # type: ignore[union-attr]
    update(engine)
    assert engine.generator is first
    assert any(not torch.equal(a, b) for a, b in zip(weight, first.parameters(), strict=True))  # type: ignore[union-attr]
    assert first.optimizer.state_dict()["state"][0]["step"] == 4  # type: ignore[union-attr,operator]


def test_metrics_tell_all_of_it_by_name() -> None:
    metrics = update(make_engine())
    common = {"fit_steps", "fit_seconds", "refreshed", "refresh_seconds", "empty", "filled"}
    common |= {"distinct", "cosine", "nearest_known"}
    bands = {f"{kind}_{band}" for kind in ("percentile", "spread") for band in range(4)}
    assert set(metrics) == common | bands | {"noise_error", "ridge_error"}
    assert all(math.isfinite(value) for value in metrics.values())
    metrics = update(make_engine("prior"))
    bands = {
        f"{kind}_{band}_{name}"
        for kind in ("percentile", "spread")
        for band in range(4)
        for name in ("entity", "relation")
    }
    assert set(metrics) == common | bands


def test_without_a_model_hardness_is_left_as_it_is() -> None:
    engine = make_engine()
    before = [list(of_band) for of_band in engine.steering.spreads]
    report = engine.update(engine.reference_space(), None, SMALL)
    assert engine.steering.spreads == before
    assert math.isnan(report.metrics["percentile_0"])
    assert report.refresh.queries == 20


def test_a_model_is_left_as_it_is() -> None:
    model = toy_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    make_engine().update(live_space(model), model, SMALL)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("generator", ["diffusion", "ridge", "two-way-gan", "prior"])
def test_memory_is_flat(generator: str) -> None:
    """Updates leave no tensors behind, however many there are."""
    engine = make_engine(generator)

    def alive() -> int:
        gc.collect()
        return sum(1 for thing in gc.get_objects() if isinstance(thing, torch.Tensor))

    for _ in range(2):
        update(engine)
    before = alive()
    for _ in range(4):
        update(engine)
    assert alive() <= before


def test_a_filled_bank_is_what_a_sampler_without_callback_gets() -> None:
    engine = make_engine()
    engine.prepare_alone(fit_steps=3, use_tqdm=False)
    assert engine.bank.filled == 1.0
    # no model tells how hard these are, so that no band is taken from the very nearest
    assert all(spread >= 0.3 for of_band in engine.steering.spreads for spread in of_band)


def test_counts_are_taken_once() -> None:
    engine = make_engine()
    engine.count(wanted=10, fallback=2)
    engine.count(wanted=10, fallback=3)
    assert engine.take_counts() == {"generated": 15, "fallback": 0.25}
    assert engine.take_counts() == {"generated": 0, "fallback": 0.0}


# Settings and curricula


def test_settings_survive_json() -> None:
    """PyKEEN writes down what a pipeline was given; read again, it makes the same bank."""
    settings = EngineSettings(
        targets=(0.3, 0.1), sides=(HEAD, TAIL), seed=3, num_slots=4, min_candidates=2, known_answers="mask"
    )
    again = EngineSettings(**json.loads(json.dumps(dataclasses.asdict(settings))))
    banks = []
    for options in (settings, again):
        engine = make_engine(**{key: value for key, value in dataclasses.asdict(options).items() if key != "sides"})
        update(engine)
        banks.append(engine.bank.ids)
    assert torch.equal(*banks)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(num_slots=0), "num_slots=0"),
        (dict(min_candidates=0), "min_candidates=0"),
        (dict(memory=0.0), r"memory=0\.0"),
        (dict(known_answers="drop"), "known_answers='drop' is unknown; choose one of compete, mask"),
        (dict(min_distinct=1.5), r"min_distinct=1\.5 is outside \[0, 1\]"),
    ],
)
def test_bad_settings(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EngineSettings(**{"targets": (0.2,), "sides": (HEAD, TAIL), "seed": 0, **kwargs})


def test_a_coupling_moves_the_curriculum_of_the_first_engine() -> None:
    coupling = Coupling(progress=0.5)
    with pytest.raises(ValueError, match="coupling has no engine yet"):
        coupling.advance(0.1)
    curriculum = curriculum_resolver.make("linear")
    engine = coupling.engine_for(make_engine, curriculum=curriculum, share=0.3)
    # a training that is resumed goes on where it was
    assert coupling.state == engine.state(curriculum, 0.5)
    # samplers that come later get the engine of the first one
    assert coupling.engine_for(make_engine, curriculum=curriculum_resolver.make("reversed"), share=0.9) is engine
    assert coupling.share == 0.3
    assert coupling.advance(0.9) == engine.state(curriculum, 0.9)


# Real UMLS


def train_umls(num_epochs: int, tracker: PythonResultTracker, **callback_kwargs: Any) -> SLCWATrainingLoop:
    """Train ComplEx by PyKEEN's loop, with the sampler and the callback by their names, and all of their defaults.

    But for the reference embedding, which gets a single epoch: types are rather coarse then.
    """
    factory = get_dataset(dataset="umls").training
    assert isinstance(factory, CoreTriplesFactory)
    loop = SLCWATrainingLoop(
        model=ComplEx(triples_factory=factory, embedding_dim=16, random_seed=0),
        triples_factory=factory,
        optimizer="adam",
        optimizer_kwargs=dict(lr=0.1),
        negative_sampler="dans_kgc",
        negative_sampler_kwargs=dict(
            random_state=0,
            reference_kwargs=dict(dim=8, num_epochs=1, use_tqdm=False),
            generator_kwargs=dict(difficulty="degree"),
        ),
        result_tracker=tracker,
        automatic_memory_optimization=False,
    )
    torch.manual_seed(0)
    loop.train(
        factory,
        num_epochs=num_epochs,
        batch_size=512,
        use_tqdm=False,
        pin_memory=False,
        callbacks="curriculum",
        callbacks_kwargs=callback_kwargs,
    )
    return loop


@pytest.mark.slow
@pytest.mark.usefixtures("shared_cache")
def test_by_default_the_network_is_trained_in_each_update() -> None:
    """With the default budget, which is a part of the time that epochs of this small graph take."""
    tracker = PythonResultTracker()
    train_umls(6, tracker)
    updates = [metrics for metrics in tracker.metrics.values() if metrics.get("negatives.refreshed", 0) > 0]
    assert updates
    assert all(metrics["negatives.fit_steps"] >= 8 for metrics in updates)
    assert all(metrics["negatives.ridge_error"] < 1 for metrics in updates)


@pytest.mark.slow
@pytest.mark.usefixtures("shared_cache")
def test_bands_are_held_apart() -> None:
    """After some epochs, each band is harder for the model than its neighbour, and has come to its target."""
    loop = train_umls(22, PythonResultTracker(), fit_steps=5, refresh_queries=100)
    engine = loop.negative_sampler_kwargs["coupling"].engine
    assert isinstance(engine, GenerationEngine)
    targets = engine.steering.targets
    assert targets == (0.28, 0.21, 0.14, 0.07)
    # on a sample of its own, many times as large as that of the loop, in a bank that is made anew in 16 epochs
    queries, _ = engine.graph.sample_positives(1000, seeded(5))
    ids = engine.bank.ids[engine.bank.rows(queries.rows)].long()
    medians = [of_band[0] for of_band in engine.percentiles(loop.model, queries.rows, ids)[0]]
    assert all(easier - harder > 0.02 for easier, harder in itertools.pairwise(medians)), medians
    assert medians == pytest.approx(targets, rel=1 / 3)
    # what is made now has to be harder, by as much as the bank will age
    assert all(factor[0] > 1 for factor in engine.steering.ageing)


@pytest.mark.usefixtures("shared_cache")
def test_bands_stay_where_they_begin() -> None:
    """Without steering, hardness is measured by a model that has learned enough to tell, and nothing moves."""
    tracker = PythonResultTracker()
    loop = train_umls(12, tracker, fit_steps=5, refresh_queries=400, steer=False)
    engine = loop.negative_sampler_kwargs["coupling"].engine
    assert isinstance(engine, GenerationEngine) and engine.generator is not None
    fresh = HardnessSteering(engine.steering.targets, min_spread=engine.steering.min_spread)
    assert engine.steering.spreads == fresh.spreads
    assert engine.steering.num_updates == 0 < engine.steering.num_measured
    # the first update, after the first epoch, finds an empty bank
    logged = [f"negatives.percentile_{band}" in metrics for metrics in tracker.metrics.values() for band in range(4)]
    assert all(logged)
