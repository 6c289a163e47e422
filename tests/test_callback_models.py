"""The curriculum callback with whatever model comes along, and its loss of generated vectors."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from pykeen.datasets.nations import NationsLiteral
from pykeen.models import Model, model_resolver
from pykeen.trackers import PythonResultTracker
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples import CoreTriplesFactory

from pykeen_dans import CurriculumTrainingCallback, DiffusionAdaptiveNegativeSampler
from pykeen_dans.engine.curriculum import curriculum_resolver
from pykeen_dans.training.vector_loss import VectorLoss

from .trainings import COUNTED, Hook, last_engine, make_loop, metrics_of, train
from .utils import from_bank, small, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")


# The loss of vectors


def test_vector_loss() -> None:
    """The loss of generated vectors is a part of the training, and is reported."""
    tracker = PythonResultTracker()
    loop = make_loop("TransE", tracker=tracker)
    norms: dict[str, list[float]] = {"without": [], "with": []}
    hooks = [
        Hook("on_batch", lambda hook: norms["without"].append(_gradient_norm(hook.model))),
        CurriculumTrainingCallback(vector_weight=1.0, **COUNTED),
        Hook("on_batch", lambda hook: norms["with"].append(_gradient_norm(hook.model))),
    ]
    train(loop, callbacks=hooks, callbacks_kwargs=None, num_epochs=2, batch_size=2_000)
    # there is nothing generated in the first epoch
    assert norms["with"][0] == norms["without"][0]
    assert norms["with"][1] != norms["without"][1]
    values = metrics_of(tracker, "vector_loss")
    assert set(values) == {2}
    assert values[2] > 0


def _gradient_norm(model: Model) -> float:
    return sum(float(p.grad.pow(2).sum()) for p in model.parameters() if p.grad is not None)


def test_no_vector_loss_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VectorLoss, "add_gradient", None)
    train(make_loop())


@pytest.mark.parametrize(("share", "is_refreshed"), [(0.0, False), (0.25, True)])
def test_bank_is_refreshed_where_somebody_reads_it(share: float, is_refreshed: bool) -> None:
    tracker = PythonResultTracker()
    loop = make_loop("TransE", tracker=tracker, sampler_kwargs=dict(share=share))
    train(loop, num_epochs=2, callbacks_kwargs=dict(vector_weight=0.5, **COUNTED))
    assert metrics_of(tracker, "vector_loss")[2] > 0
    assert (metrics_of(tracker, "refreshed")[1] > 0) == is_refreshed
    assert (last_engine(loop).bank.filled > 0) == is_refreshed


def test_vector_loss_of_a_side_that_is_not_corrupted(caplog: pytest.LogCaptureFixture) -> None:
    tracker = PythonResultTracker()
    loop = make_loop("TransE", tracker=tracker, sampler_kwargs=dict(corruption_scheme=["tail"]))
    train(loop, num_epochs=3, callbacks_kwargs=dict(vector_weight=0.5, vector_kinds=["head"], **COUNTED))
    assert caplog.text.count("vector_kinds=('head',) has no effect") == 1
    assert not metrics_of(tracker, "vector_loss")


def test_vector_loss_with_sub_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of vectors is added once for each batch, not once for each of its parts."""
    sizes: list[int] = []
    add_gradient = VectorLoss.add_gradient

    def recording(self: VectorLoss, *, positives: torch.Tensor, **kwargs: Any) -> float:
        sizes.append(len(positives))
        return add_gradient(self, positives=positives, **kwargs)

    monkeypatch.setattr(VectorLoss, "add_gradient", recording)
    train(make_loop(), num_epochs=2, sub_batch_size=50, callbacks_kwargs=dict(vector_weight=0.5, **COUNTED))
    # 1592 triples in batches of 256
    assert sizes == [256] * 6 + [56]


def test_vector_loss_that_is_not_finite_leaves_the_model_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A generator that has gone astray is made anew, which is said once; the model goes on."""
    loop = make_loop("TransE", sampler_kwargs=dict(generator_kwargs=dict(learning_rate=1e6)))
    gradients: list[list[torch.Tensor]] = []

    def record(hook: TrainingCallback) -> None:
        gradients.append([p.grad.clone() for p in hook.model.parameters() if p.grad is not None])

    hooks = [Hook("on_batch", record), CurriculumTrainingCallback(vector_weight=1.0, **COUNTED | dict(fit_steps=20))]
    losses = train(loop, callbacks=[*hooks, Hook("on_batch", record)], callbacks_kwargs=None)
    assert all(map(math.isfinite, losses))
    assert last_engine(loop).generate(torch.arange(5)).isfinite().all()
    # those before and after our callback, in three epochs of seven batches
    assert len(gradients) == 2 * 3 * 7
    assert all(gradient.isfinite().all() for each in gradients for gradient in each)
    assert caplog.text.count("The generator has diverged, and is made anew") == 1


# Models


def rgcn_kwargs() -> dict[str, Any]:
    return dict(num_layers=1, decomposition="bases")


@pytest.mark.parametrize("vector_weight", [0.0, 0.5])
@pytest.mark.parametrize(
    ("model", "model_kwargs", "inverse", "train_kwargs"),
    [
        ("TransE", {}, False, {}),
        ("RotatE", {}, False, {}),
        ("ComplEx", {}, True, {}),
        ("RESCAL", {}, False, {}),
        ("ConvE", dict(embedding_dim=16), True, {}),
        ("TransD", {}, False, {}),
        ("QuatE", {}, False, {}),
        ("NodePiece", dict(num_tokens=3), True, {}),
        ("RGCN", rgcn_kwargs(), False, dict(sampler="schlichtkrull")),
        ("CompGCN", dict(encoder_kwargs=dict(num_layers=1)), True, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_models(
    model: str,
    model_kwargs: dict[str, Any],
    inverse: bool,
    train_kwargs: dict[str, Any],
    vector_weight: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever the model: its negatives are generated in its own space, and it learns."""
    factory = training_of("nations", create_inverse_triples=inverse)
    tracker = PythonResultTracker()
    loop = make_loop(model, factory, tracker=tracker, model_kwargs=model_kwargs)
    losses = train(
        loop, factory, num_epochs=3, callbacks_kwargs=dict(vector_weight=vector_weight, **COUNTED), **train_kwargs
    )
    assert all(map(torch.isfinite, torch.tensor(losses)))
    assert "space of the reference embedding" not in caplog.text
    engine = last_engine(loop)
    assert engine.space is not None
    with torch.no_grad():
        raw = loop.model.entity_representations[0](indices=None)
    assert engine.space.raw_entities.shape == raw.shape
    assert metrics_of(tracker, "fallback")[3] < 0.2
    assert all(0 < metrics_of(tracker, f"percentile_{band}")[3] < 1 for band in range(engine.num_bands))
    if vector_weight > 0:
        told = caplog.text.count("vector_weight=0.5 has no effect")
        # models whose interaction needs more than one vector of an entity
        assert told == (1 if model in {"TransD", "ConvE"} else 0)
        assert bool(metrics_of(tracker, "vector_loss")) == (not told)


def test_encoder_gets_gradients_after_a_refresh() -> None:
    """An encoder that keeps its vectors is not cut off from the training by our having looked at them."""
    loop = make_loop("RGCN", model_kwargs=rgcn_kwargs())
    norms: list[float] = []

    def record(hook: TrainingCallback) -> None:
        gradients = [p.grad for p in hook.model.entity_representations.parameters()]
        norms.append(sum(float(g.abs().sum()) for g in gradients if g is not None))

    hooks = ["curriculum", Hook("on_batch", record)]
    train(loop, callbacks=hooks, callbacks_kwargs=[COUNTED, None], sampler="schlichtkrull")
    assert min(norms) > 0


def test_literals() -> None:
    """Of a model with literals, the space is that of the vectors with which it combines them."""
    factory = NationsLiteral().training
    tracker = PythonResultTracker()
    loop = make_loop("DistMultLiteral", factory, tracker=tracker)
    train(loop, factory, callbacks_kwargs=dict(vector_weight=0.5, **COUNTED))
    space = last_engine(loop).space
    assert space is not None and space.vectors.shape == (14, 8)
    assert metrics_of(tracker, "fallback")[3] < 0.2
    assert metrics_of(tracker, "vector_loss")[3] > 0


def test_model_without_vectors(caplog: pytest.LogCaptureFixture) -> None:
    """For a model without entity vectors, the reference embedding is used, which is said once."""
    tracker = PythonResultTracker()
    loop = make_loop("FixedModel", tracker=tracker)
    train(loop, callbacks_kwargs=dict(vector_weight=0.5, **COUNTED))
    assert caplog.text.count("in the space of the reference embedding: model=FixedModel") == 1
    assert caplog.text.count("vector_weight=0.5 has no effect") == 1
    assert metrics_of(tracker, "fallback")[3] < 0.2


def test_model_with_nan(caplog: pytest.LogCaptureFixture) -> None:
    """While the model has NaN in its vectors nothing is generated, which is said once and counted."""
    tracker = PythonResultTracker()
    loop = make_loop("TransE", tracker=tracker)
    kept: list[torch.Tensor] = []

    def weight_of(hook: TrainingCallback) -> torch.Tensor:
        return hook.model.entity_representations[0]._embeddings.weight.data

    def damage(hook: TrainingCallback) -> None:
        kept.append(weight_of(hook).clone())
        if hook.training_loop._epoch > 1:
            weight_of(hook)[3] = float("nan")

    hooks = [
        Hook("post_epoch", damage),
        CurriculumTrainingCallback(**COUNTED),
        # PyKEEN itself ends a training with a loss that is not finite
        Hook("post_epoch", lambda hook: weight_of(hook).copy_(kept[-1])),
    ]
    losses = train(loop, num_epochs=4, callbacks=hooks, callbacks_kwargs=None)
    assert len(losses) == 4
    assert metrics_of(tracker, "skipped") == {2: 1, 3: 1, 4: 1}
    assert caplog.text.count("Nothing is generated while the model is not finite") == 1
    # what was generated before is still there, and valid
    ids = last_engine(loop).bank.ids
    assert (ids >= -1).all() and (ids < 14).all() and (ids >= 0).any()


def test_inductive_mode(caplog: pytest.LogCaptureFixture) -> None:
    """In an inductive mode there are no fixed entities, so that the reference embedding is used, which is said once."""
    factory = training_of("nations", create_inverse_triples=True)
    tracker = PythonResultTracker()
    model = model_resolver.make(
        "InductiveNodePiece",
        dict(embedding_dim=8, num_tokens=3),
        triples_factory=factory,
        inference_factory=factory,
        random_seed=0,
    )
    loop = make_loop(model, factory, tracker=tracker, mode="training")
    train(loop, factory, callbacks_kwargs=dict(vector_weight=0.5, **COUNTED))
    assert caplog.text.count("in the space of the reference embedding, since mode='training'") == 1
    assert caplog.text.count("vector_weight=0.5 has no effect") == 1
    assert metrics_of(tracker, "fallback")[3] < 0.2


def test_unseen_relations_and_entities() -> None:
    """Queries that training lacks, as those of a validation triple, are answered uniformly."""
    factory = CoreTriplesFactory(training_of("nations").mapped_triples[:300], num_entities=20, num_relations=60)
    loop = make_loop("DistMult", factory)
    train(loop, factory, batch_size=64)
    sampler = DiffusionAdaptiveNegativeSampler(
        mapped_triples=factory.mapped_triples,
        num_entities=20,
        num_relations=60,
        coupling=loop.negative_sampler_kwargs["coupling"],
        **small(num_negs_per_pos=4, share=1.0),
    )
    sampler.coupling.state = curriculum_resolver.make("constant")(0.0, num_bands=sampler.engine.num_bands)
    _, generated = from_bank(sampler, factory.mapped_triples)
    assert generated.any()
    negatives, generated = from_bank(sampler, torch.tensor([[17, 3, 18], [0, 59, 1], [19, 59, 18]]))
    assert not generated.any()
    assert ((negatives >= 0) & (negatives < torch.tensor([20, 60, 20]))).all()


def test_logging_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """An ordinary training has nothing to warn of."""
    factory = training_of("umls")
    with caplog.at_level(logging.WARNING):
        train(make_loop(factory=factory), factory)
    ours = [record.message for record in caplog.records if record.name.startswith("pykeen_dans")]
    assert not ours


def test_warnings_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """PyKEEN makes samplers again and again, and epochs are many, but a user reads the same thing once."""
    for _ in range(2):
        train(make_loop("FixedModel"), callbacks_kwargs=dict(vector_weight=0.5, **COUNTED), num_epochs=4)
    told = [record.message for record in caplog.records if record.name.startswith("pykeen_dans")]
    assert sum("entities are too few to tell them apart" in message for message in told) == 1
    # these are of each training
    assert sum("space of the reference embedding" in message for message in told) == 2
    assert sum("vector_weight=0.5 has no effect" in message for message in told) == 2
