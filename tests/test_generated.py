"""What a generated sampler adds to shared negatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pykeen.losses import CrossEntropyLoss
from pykeen.models import ERModel, TransD
from pykeen.trackers import PythonResultTracker
from torch import Tensor

from pykeen_dans import DANSTrainingLoop, SharedNegativesTrainingLoop
from pykeen_dans.bank import NegativeBank
from pykeen_dans.engine.settings import UpdateBudget
from pykeen_dans.space import live_space
from pykeen_dans.utils import logs

from .trainings import COUNTED, metrics_of, run_pipeline
from .utils import training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

#: More than the entities of Nations
ALL = 100
SAMPLER: dict[str, Any] = dict(generator="prior", targets=[0.3], reference_kwargs=dict(kind="random"))


def make_loop(*, regularized: bool = False, **kwargs: Any) -> SharedNegativesTrainingLoop:
    factory = training_of("nations")
    torch.manual_seed(0)
    vectors = dict(shape=8, initializer="xavier_uniform_")
    model = ERModel(
        triples_factory=factory,
        interaction="distmult",
        entity_representations_kwargs=vectors | dict(regularizer="powersum" if regularized else None),
        relation_representations_kwargs=vectors,
        random_seed=0,
        loss=CrossEntropyLoss(),
    )
    options = dict(negative_sampler="dans_kgc", negative_sampler_kwargs=SAMPLER, num_shared=ALL) | kwargs
    return SharedNegativesTrainingLoop(
        model=model, triples_factory=factory, automatic_memory_optimization=False, **options
    )


def first_batch(loop: SharedNegativesTrainingLoop, size: int = 32) -> dict[str, Any]:
    torch.manual_seed(1)
    loader = loop._create_training_data_loader(
        training_of("nations"), sampler=None, batch_size=size, drop_last=False, num_workers=0
    )
    return next(iter(loader))


def bank_of(loop: SharedNegativesTrainingLoop) -> NegativeBank:
    assert loop._generated is not None
    return loop._generated.sampler.engine.bank


def gradient(loop: SharedNegativesTrainingLoop) -> Tensor:
    result = loop.model.entity_representations[0]._embeddings.weight.grad
    assert result is not None
    return result


@pytest.mark.parametrize("entity", [None, 3, -1], ids=["generated", "always the same", "none"])
@pytest.mark.parametrize("num_own", [1, 6])
def test_ids_keep_the_target(entity: int | None, num_own: int) -> None:
    """With a pool of all entities, whatever the bank holds changes neither loss, with regularization, nor gradient."""
    plain, loop = (make_loop(num_own=number, regularized=True) for number in (0, num_own))
    batches = first_batch(plain), first_batch(loop)
    if entity is not None:
        bank_of(loop).ids.fill_(entity)
    losses = [each._process_batch(batch, 0, 32) for each, batch in zip((plain, loop), batches, strict=True)]
    torch.testing.assert_close(losses[1], losses[0], atol=1e-5, rtol=1e-5)
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(gradient(loop), gradient(plain), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_hardest_ids_keep_the_target_in_expectation() -> None:
    """A small pool estimates the same sum, with the same entity as a candidate of all queries."""
    exact = make_loop(num_own=0)
    loop = make_loop(num_own=4, num_shared=5)
    batches = first_batch(exact), first_batch(loop)
    bank_of(loop).ids.fill_(int(exact.model.entity_representations[0](None).norm(dim=-1).argmax()))
    with torch.no_grad():
        expected = exact._process_batch(batches[0], 0, 32)
        losses = []
        for _ in range(400):
            loop._batch = None
            losses.append(loop._process_batch(batches[1], 0, 32))
    # the logarithm of an unbiased estimate is a little too small
    assert abs(torch.stack(losses).mean() - expected) < 0.1


def test_a_pool_from_the_bank_regularizes_all_entities_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entity that is proposed always is in each pool, and regularized no more than in a uniform one."""
    means = []
    for proposal in ("uniform", "bank"):
        loop = make_loop(num_own=0, num_shared=8, proposal=proposal, regularized=True)
        batch = first_batch(loop)
        with torch.no_grad():
            loop.model.entity_representations[0]._embeddings.weight[3] *= 10
        if proposal == "bank":
            bank = bank_of(loop)
            bank.ids.fill_(3)
            bank.version += 1
        collect, terms = loop.model.collect_regularization_term, list[float]()

        def recording(collect: Callable[[], Tensor] = collect, terms: list[float] = terms) -> Tensor:
            term = collect()
            terms.append(term.item())
            return term

        monkeypatch.setattr(loop.model, "collect_regularization_term", recording)
        for _ in range(300):
            loop._batch = None
            loop._process_batch(batch, 0, 32)
            assert proposal == "uniform" or loop._share(batch).pools["tail"].ids.tolist().count(3) == 1
        assert len(terms) == 300
        means.append(sum(terms) / len(terms))
    assert means[1] == pytest.approx(means[0], rel=0.05) and means[0] > 0


def test_vectors_stand_for_so_many_entities() -> None:
    loop = make_loop(num_own=0, num_vectors=3, vector_weight=6.0, sides=["tail"])
    batch = first_batch(loop, 16)
    assert loop._generated is not None
    engine = loop._generated.sampler.engine
    # without a callback, the sampler has generated in the space of the reference embedding
    engine.update(live_space(loop.model), None, UpdateBudget(fit_steps=0, refresh_queries=0))
    shared = loop._share(batch)
    found = shared.vectors["tail"]
    assert found is not None
    vectors, log_weights = found
    assert vectors.shape == (16, min(3, engine.num_bands * len(engine.sources)), 8)
    assert log_weights.exp() == pytest.approx(6.0 / vectors.shape[1])
    head, relation, tail = (
        representation(index)
        for representation, index in zip(
            (loop.model.entity_representations[0], loop.model.relation_representations[0]) * 2,
            (batch["positives"][:, 0], batch["positives"][:, 1], batch["positives"][:, 2]),
            strict=False,
        )
    )
    query = head * relation
    entities = query @ loop.model.entity_representations[0](None).T
    of_vectors = (query[:, None] * vectors).sum(dim=-1) + math.log(6.0 / vectors.shape[1])
    expected = (torch.cat([entities, of_vectors], dim=-1).logsumexp(dim=-1) - (query * tail).sum(dim=-1)).mean()
    torch.testing.assert_close(loop._process_batch(batch, 0, 16), expected)


def test_positives_are_seen_once() -> None:
    """Both sides of a positive are one step of the curriculum, where there is no callback to keep its clock."""
    loop = make_loop(num_own=2)
    loop._share(first_batch(loop, 32))
    assert loop._generated is not None
    assert loop._generated.sampler.seen.totals() == [32]


def test_nothing_without_a_generator() -> None:
    loop = make_loop(num_own=4, num_vectors=2, negative_sampler_kwargs=SAMPLER | dict(generator="uniform"))
    shared = loop._share(first_batch(loop))
    assert set(shared.own.values()) == {None}
    assert set(shared.vectors.values()) == {None}


def test_loops_bring_everything_along() -> None:
    tracker = PythonResultTracker()
    result = run_pipeline(
        training_loop="dans",
        loss="crossentropy",
        negative_sampler=None,
        negative_sampler_kwargs=SAMPLER,
        training_loop_kwargs=dict(num_own=3, num_vectors=2),
        training_kwargs=dict(callbacks_kwargs=COUNTED),
        result_tracker=tracker,
    )
    assert isinstance(result.training_loop, DANSTrainingLoop)
    # the bank is read from the second epoch on
    assert metrics_of(tracker, "generated")[1] == 0
    assert metrics_of(tracker, "generated")[3] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_own=-1), "num_own=-1"),
        (dict(num_vectors=0.5), "num_vectors=0.5"),
        (dict(vector_weight=-2.0), "vector_weight=-2.0 is negative"),
        (
            dict(negative_sampler="basic", negative_sampler_kwargs=None, num_own=4),
            "num_own=4 .* need a sampler that gen",
        ),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_loop(**options)


def test_vectors_need_one_vector_for_each_entity() -> None:
    factory = training_of("nations")
    options = dict(triples_factory=factory, negative_sampler="dans_kgc", num_vectors=2)
    with pytest.raises(ValueError, match=r"num_vectors=2 needs .* rather than TransD with mode=None; leave it out"):
        SharedNegativesTrainingLoop(model=TransD(triples_factory=factory), **options)
    SharedNegativesTrainingLoop(model=TransD(triples_factory=factory), **options | dict(num_vectors=0))


def test_sides_that_are_not_generated() -> None:
    loop = make_loop(num_own=2, negative_sampler_kwargs=SAMPLER | dict(corruption_scheme=["tail"]))
    with pytest.raises(ValueError, match=r"corruption_scheme=\['tail'\] leaves out 1 of the sides"):
        first_batch(loop)


# Through the pool


def test_a_proposal_follows_the_bank() -> None:
    """What the generator proposes for the queries of a side becomes more probable in the pool of this side."""
    loop = make_loop(num_shared=4, proposal="bank")
    first_batch(loop)
    bank, num_entities = bank_of(loop), loop.model.num_entities
    bank.write(torch.arange(bank.num_rows), torch.full(bank.ids.shape, 3))
    first_batch_pools = {side: proposal.draw(4) for side, proposal in loop._proposals.items()}
    assert len(first_batch_pools) == 2
    for proposal in loop._proposals.values():
        # a quarter more candidates than without
        expected = torch.full((num_entities,), 0.8 / num_entities)
        expected[3] += 0.2
        assert torch.allclose(proposal.probabilities(), expected)


def test_training_with_a_pool_from_the_bank() -> None:
    result = run_pipeline(
        "nations",
        loss="crossentropy",
        training_loop="dans-kgc",
        training_loop_kwargs=dict(num_shared=4, num_own=0, proposal="bank"),
        negative_sampler_kwargs=SAMPLER,
    )
    proposals = result.training_loop._proposals  # type: ignore[attr-defined]
    assert all(proposal.probabilities().std() > 1.0e-4 for proposal in proposals.values())


def test_a_pool_from_no_bank_is_refused() -> None:
    with pytest.raises(ValueError, match="proposal='bank' needs a sampler that generates negatives"):
        make_loop(proposal="bank", negative_sampler=None, negative_sampler_kwargs=None)


@pytest.mark.parametrize(
    ("options", "generates"),
    [
        (dict(num_shared=4), True),
        # as ids of each query
        (dict(num_shared=ALL), True),
        (dict(num_shared=ALL, num_own=0), False),
        (dict(num_shared=4, proposal="uniform"), False),
        (dict(num_shared=ALL, num_own=2), True),
        (dict(num_shared=ALL, num_vectors=2), True),
    ],
)
def test_nothing_is_generated_that_nobody_reads(
    options: dict[str, Any], generates: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """By default, what is generated enters through the pool, or beside one of all entities; else a warning says so."""
    logs.warn_once.cache_clear()
    tracker = PythonResultTracker()
    run_pipeline(
        training_loop="dans-kgc",
        loss="crossentropy",
        negative_sampler=None,
        negative_sampler_kwargs=SAMPLER,
        training_loop_kwargs=options,
        training_kwargs=dict(callbacks_kwargs=COUNTED),
        result_tracker=tracker,
    )
    assert ("has no effect in DANSKGCTrainingLoop" in caplog.text) is not generates
    reads_bank = generates and "num_vectors" not in options
    assert (max(metrics_of(tracker, "refreshed").values()) > 0) is reads_bank
