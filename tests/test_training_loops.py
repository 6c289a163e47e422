"""The training loops of this package: what they bring along, and what they do to the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pykeen.datasets import Nations
from pykeen.evaluation import RankBasedEvaluator
from pykeen.losses import MarginRankingLoss
from pykeen.models import model_resolver
from pykeen.sampling import BasicNegativeSampler
from pykeen.stoppers import EarlyStopper
from pykeen.trackers import PythonResultTracker
from pykeen.training import SLCWATrainingLoop
from torch import Tensor

from pykeen_dans import (
    CurriculumTrainingCallback,
    DiffusionAdaptiveNegativeSampler,
    HierarchicalNegativeSampler,
    TwoWayGANNegativeSampler,
)
from pykeen_dans.engine.curriculum import curriculum_resolver
from pykeen_dans.scoring.proposals import BankProposal, UniformProposal
from pykeen_dans.training.loops import CurriculumTrainingLoop, DANSTrainingLoop, GeneratedTrainingLoop
from pykeen_dans.training.vector_loss import VectorLoss

from .trainings import COUNTED, last_engine, make_loop, metrics_of, run_pipeline, train
from .utils import small, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

#: Two bands on a graph as small as Nations
TARGETS = (0.45, 0.2)


def kgc_loop(model: str = "TransE", **kwargs: Any) -> CurriculumTrainingLoop:
    loop = make_loop(model, cls=CurriculumTrainingLoop, **kwargs)
    assert isinstance(loop, CurriculumTrainingLoop)
    return loop


# What they bring along


@pytest.mark.parametrize(
    ("name", "sampler", "cls"),
    [
        ("dans-kgc", "dans_kgc", DiffusionAdaptiveNegativeSampler),
        ("dans", "dans", TwoWayGANNegativeSampler),
        ("dhns", "dhns", HierarchicalNegativeSampler),
    ],
)
def test_short_form(name: str, sampler: str, cls: type) -> None:
    """A training loop by its name brings sampler and callback along."""
    tracker = PythonResultTracker()
    result = run_pipeline(
        training_loop=name,
        negative_sampler=None,
        negative_sampler_kwargs=small(sampler),
        training_kwargs=dict(),
        result_tracker=tracker,
    )
    assert result.training_loop.negative_sampler is cls
    assert set(metrics_of(tracker, "hardness")) == {1, 2, 3}
    # however short the epochs are, their share is enough for something to be generated, if it is read
    loop = result.training_loop
    assert isinstance(loop, GeneratedTrainingLoop) and loop.reads_bank != loop.reads_vectors
    assert (metrics_of(tracker, "refreshed")[1] > 0) == loop.reads_bank
    assert metrics_of(tracker, "fallback")[3] < 0.5


@pytest.mark.parametrize(
    ("options", "num_own", "num_vectors"),
    [
        ({}, 0, 4),
        (dict(negative_sampler="dans"), 0, 4),
        (dict(negative_sampler_kwargs=dict(share=0.25)), 0, 4),
        # to a pool that is a sample, those of the bank are added
        (dict(num_shared=5), 0, 0),
        # who asks for something gets nothing else
        (dict(num_own=3), 3, 0),
        (dict(num_vectors=2), 0, 2),
        (dict(num_vectors=0), 8, 0),
        (dict(negative_sampler="dans_kgc"), 8, 0),
        (dict(negative_sampler_kwargs=dict(generator="prior")), 8, 0),
        (dict(negative_sampler_kwargs=dict(targets=[0.3])), 8, 0),
        # two vectors for each entity
        (dict(model="TransD"), 8, 0),
    ],
)
def test_where_candidates_of_dans_enter(options: dict[str, Any], num_own: int, num_vectors: int) -> None:
    """Beside a pool of all entities, they are vectors, where these can be scored and nothing else is asked for."""
    factory = training_of("nations")
    model = model_resolver.make(options.pop("model", "DistMult"), embedding_dim=8, triples_factory=factory)
    loop = DANSTrainingLoop(model=model, triples_factory=factory, **options)
    assert (loop.num_own, loop.num_vectors) == (num_own, num_vectors)
    # candidates of the bank are added to a pool, unless something else is asked for
    is_asked = options.get("num_own", 0) + options.get("num_vectors", 0) > 0
    assert {type(proposal) for proposal in loop._proposals.values()} == {UniformProposal if is_asked else BankProposal}


def test_vectors_of_dans_are_near_the_kept_entity() -> None:
    """By default, they come from the entity way alone."""
    tracker = PythonResultTracker()
    sampler = dict(reference_kwargs=dict(kind="random"), share=0.25)
    result = run_pipeline(
        training_loop="dans",
        negative_sampler=None,
        negative_sampler_kwargs=sampler,
        training_kwargs=dict(callbacks_kwargs=COUNTED),
        result_tracker=tracker,
    )
    engine = last_engine(result.training_loop)
    assert engine.sources == ("entity",)
    assert result.training_loop.negative_sampler_kwargs["share"] == 0.25
    assert set(metrics_of(tracker, "percentile_0")) == {1, 2, 3}


@pytest.mark.parametrize(
    "asked",
    [
        dict(callbacks=None, callbacks_kwargs=dict(fit_steps=1, refresh_queries=7)),
        dict(callbacks="curriculum", callbacks_kwargs=dict(fit_steps=1, refresh_queries=7)),
        dict(callbacks=["evaluation-loss", "curriculum"], callbacks_kwargs=[{}, dict(fit_steps=1, refresh_queries=7)]),
        dict(callbacks=CurriculumTrainingCallback(fit_steps=1, refresh_queries=7), callbacks_kwargs=None),
    ],
    ids=["unnamed", "named", "second", "instance"],
)
def test_options_of_the_callback(asked: dict[str, Any]) -> None:
    """Options reach the callback, named or not, and it is not joined by a second one, whatever form it has."""
    if isinstance(asked["callbacks"], list):
        asked["callbacks_kwargs"][0]["triples_factory"] = training_of("nations")
    tracker = PythonResultTracker()
    train(kgc_loop(tracker=tracker), num_epochs=2, **asked)
    assert metrics_of(tracker, "refreshed") == {1: 7, 2: 7}
    assert metrics_of(tracker, "fit_steps") == {1: 1, 2: 1}


def test_other_callbacks_do_not_keep_it_away() -> None:
    tracker = PythonResultTracker()
    kwargs = dict(callbacks="evaluation-loss", callbacks_kwargs=dict(triples_factory=training_of("nations")))
    train(kgc_loop(tracker=tracker), num_epochs=2, **kwargs)
    assert set(metrics_of(tracker, "hardness")) == {1, 2}
    assert all("validation.loss" in tracker.metrics[step] for step in (1, 2))


@pytest.mark.parametrize("callbacks", [None, "curriculum"])
def test_unknown_options_of_the_callback(callbacks: str | None) -> None:
    """What the callback does not know is refused, also where it is not named."""
    with pytest.raises(TypeError, match="nonsense"):
        train(kgc_loop(), callbacks=callbacks, callbacks_kwargs=dict(nonsense=1))
    with pytest.raises(ValueError, match="refresh_budget=-1 is negative"):
        train(kgc_loop(), callbacks=callbacks, callbacks_kwargs=dict(refresh_budget=-1))


# The weight of generated negatives


def batch_of_loop(loop: CurriculumTrainingLoop, size: int) -> dict[str, Tensor]:
    """Get a batch, as the loop does."""
    factory = training_of("nations")
    loader = loop._create_training_data_loader(
        factory, batch_size=size, drop_last=False, num_workers=0, pin_memory=False, sampler=None
    )
    return next(iter(loader))


def margin_loss(loop: CurriculumTrainingLoop, positives: Tensor, negatives: Tensor, margin: float) -> Tensor:
    """Compute the margin ranking loss of TransE from its definition."""
    entities, relations = (r[0](None) for r in (loop.model.entity_representations, loop.model.relation_representations))

    def distance(triples: Tensor) -> Tensor:
        head, relation, tail = triples.unbind(dim=-1)
        return (entities[head] + relations[relation] - entities[tail]).norm(p=1, dim=-1)

    return torch.relu(margin + distance(positives)[:, None] - distance(negatives)).mean()


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0, None])
@pytest.mark.parametrize(("num_negatives", "share", "num_generated"), [(4, 0.5, 2), (4, 0.25, 1), (5, 0.5, 3)])
def test_eta(eta: float | None, num_negatives: int, share: float, num_generated: int) -> None:
    """The loss is eta times that of generated negatives and 1 - eta times that of uniform ones, however many."""
    loop = kgc_loop(
        model_kwargs=dict(loss=MarginRankingLoss(margin=2.0), scoring_fct_norm=1, regularizer=None),
        sampler_kwargs=dict(share=share, num_negs_per_pos=num_negatives, known_answers="mask"),
        eta=eta,
    )
    batch = batch_of_loop(loop, 64)
    assert loop.sampler_in_use is not None
    value = loop._process_batch(batch, 8, 40)
    positives, negatives = (batch[key][8:40] for key in ("positives", "negatives"))
    parts = negatives[:, :num_generated], negatives[:, num_generated:]
    generated, uniform = (margin_loss(loop, positives, part, 2.0) for part in parts)
    assert abs(generated - uniform) > 1e-4
    expected = margin_loss(loop, positives, negatives, 2.0) if eta is None else eta * generated + (1 - eta) * uniform
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_gradient_of_eta(eta: float) -> None:
    """With a weight of 0, generated negatives teach nothing, with 1 uniform ones do not."""
    loop = kgc_loop("DistMult", sampler_kwargs=dict(share=0.5, num_negs_per_pos=2), eta=eta)
    batch = batch_of_loop(loop, 8)
    left_out = 0 if eta == 0.0 else 1
    # an entity that occurs in the negatives of weight 0 alone
    entity = training_of("nations").num_entities - 1
    for key in ("positives", "negatives"):
        batch[key][..., [0, 2]] %= entity
    batch["negatives"][:, left_out, 2] = entity
    loop._process_batch(batch, 0, 8).backward()
    gradient = loop.model.entity_representations[0]._embeddings.weight.grad
    assert gradient is not None and gradient.any()
    assert not gradient[entity].any()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_eta_where_all_negatives_are_of_one_kind(share: float) -> None:
    """Where there is nothing to balance, it is PyKEEN's own loss."""
    losses = []
    for eta in (None, 0.9):
        losses.append(train(kgc_loop(sampler_kwargs=dict(share=share), eta=eta)))
    assert losses[0] == losses[1]


def test_eta_with_a_filterer() -> None:
    """Masked negatives are left out, and where all of a kind are, the loss is that of the other one."""
    loop = kgc_loop(
        model_kwargs=dict(loss=MarginRankingLoss(margin=2.0), scoring_fct_norm=1, regularizer=None),
        sampler_kwargs=dict(share=0.5, filtered=True, filterer="exact"),
        eta=0.3,
    )
    batch = batch_of_loop(loop, 32)
    masks = batch["masks"]
    assert masks.any() and not masks.all()
    losses = []
    for column in range(4):
        # one negative of each positive is enough to tell means of different sizes apart
        batch["masks"] = torch.zeros_like(masks)
        batch["masks"][:, column] = True
        losses.append(loop._process_batch(batch, 0, 32))
        expected = margin_loss(loop, batch["positives"], batch["negatives"][:, [column]], 2.0)
        torch.testing.assert_close(losses[-1], expected)
    batch["masks"][:, 1] = True
    torch.testing.assert_close(loop._process_batch(batch, 0, 32), 0.3 * losses[1] + 0.7 * losses[3])


def test_eta_with_another_sampler() -> None:
    """A sampler that generates nothing has nothing to weigh, but the callback refuses it first."""
    loop = CurriculumTrainingLoop(
        model=make_loop().model, triples_factory=training_of("nations"), negative_sampler=BasicNegativeSampler, eta=0.5
    )
    with pytest.raises(ValueError, match=r"negative_sampler='basic' generates no negatives.*dans_kgc"):
        train(loop, callbacks_kwargs=None)


@pytest.mark.parametrize("cls", [CurriculumTrainingLoop])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(eta=1.5), r"eta=1.5 is outside \[0, 1\]"),
        (dict(eta="half"), r"eta='half' is not a finite number"),
        (dict(adapt_margin="false"), r"adapt_margin='false' is neither true nor false"),
        (dict(adapt_margin=True), r"adapt_margin=True needs a loss with a margin, and SoftplusLoss has none; use e.g."),
    ],
)
def test_bad_options(cls: type[SLCWATrainingLoop], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_loop(cls=cls, model_kwargs=dict(loss="softplus"), **options)


# The margin


def margins(adapt_margin: bool, **kwargs: Any) -> tuple[list[float], list[float], MarginRankingLoss]:
    """Train, and get the margins in the batches, the curriculum's factors, and the loss."""
    seen: list[float] = []

    class Watched(MarginRankingLoss):
        def process_slcwa_scores(self, *args: Any, **kwargs: Any) -> Tensor:
            seen.append(self.margin)
            return super().process_slcwa_scores(*args, **kwargs)

    loss = Watched(margin=2.0)
    loop = kgc_loop(
        model_kwargs=dict(loss=loss), sampler_kwargs=dict(targets=TARGETS), adapt_margin=adapt_margin, **kwargs
    )
    train(loop, num_epochs=4, batch_size=2_000)
    curriculum = curriculum_resolver.make(None)
    return seen, [curriculum(epoch / 4, num_bands=2).margin_factor for epoch in range(4)], loss


def test_margin_follows_the_curriculum() -> None:
    """The margin moves with the curriculum, and is what it was after the training."""
    seen, factors, loss = margins(True, eta=None)
    assert seen == pytest.approx([2.0 * factor for factor in factors])
    assert seen == sorted(seen, reverse=True) and len(set(seen)) == 4
    assert loss.margin == 2.0


def test_margin_is_left_alone_by_default() -> None:
    seen, _, _ = margins(False)
    assert set(seen) == {2.0}


def test_margin_is_adapted_for_both_kinds_of_negatives() -> None:
    seen, factors, _ = margins(True, eta=0.5)
    assert seen == pytest.approx([2.0 * factor for factor in factors for _ in range(2)])


def test_margin_after_an_exception() -> None:
    """Whatever happens in a batch, the loss has its own margin afterwards."""
    found: list[float] = []

    class Failing(MarginRankingLoss):
        def process_slcwa_scores(self, *args: Any, **kwargs: Any) -> Tensor:
            found.append(self.margin)
            raise RuntimeError("no such luck")

    loss = Failing(margin=2.0)
    loop = kgc_loop(
        model_kwargs=dict(loss=loss),
        sampler_kwargs=dict(targets=TARGETS, curriculum="reversed", curriculum_kwargs=dict(kappa=5.0)),
        adapt_margin=True,
    )
    with pytest.raises(RuntimeError, match="no such luck"):
        train(loop)
    assert found[0] < 1.9
    assert loss.margin == 2.0


def test_margin_after_early_stopping() -> None:
    """PyKEEN tells no callback that it stops early; the margin is what it was nonetheless."""
    dataset = Nations()
    loss = MarginRankingLoss(margin=2.0)
    loop = kgc_loop(model_kwargs=dict(loss=loss), sampler_kwargs=dict(targets=TARGETS), adapt_margin=True)
    stopper = EarlyStopper(
        model=loop.model,
        evaluator=RankBasedEvaluator(),
        training_triples_factory=dataset.training,
        evaluation_triples_factory=dataset.validation,
        frequency=1,
        patience=1,
        # no improvement is enough
        relative_delta=1e9,
        evaluation_batch_size=64,
    )
    assert len(train(loop, num_epochs=50, stopper=stopper)) == 2
    assert loss.margin == 2.0


def test_margin_of_the_vector_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The curriculum's factor is applied to the margin of the vectors once, also where the loop adapts it as well."""
    found: list[float] = []

    def recording(self: VectorLoss, *, loss: Any, **kwargs: Any) -> float:
        found.append(loss.margin)
        return 0.0

    monkeypatch.setattr(VectorLoss, "add_gradient", recording)
    loop = kgc_loop(
        model_kwargs=dict(loss=MarginRankingLoss(margin=2.0)), sampler_kwargs=dict(targets=TARGETS), adapt_margin=True
    )
    train(loop, batch_size=2_000, callbacks_kwargs=dict(vector_weight=1.0, **COUNTED))
    # in the first epoch there is nothing generated yet
    assert found == [2.0, 2.0]
