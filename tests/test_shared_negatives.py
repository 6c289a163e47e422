"""The training loop with shared negatives, as users of PyKEEN's other loops expect it: loss, weights, bad input."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from pykeen.cli import main as pykeen_cli
from pykeen.losses import CrossEntropyLoss, loss_resolver
from pykeen.models import model_resolver
from pykeen.pipeline import pipeline, pipeline_from_config
from pykeen.training import NonFiniteLossError, training_loop_resolver
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples.weights import RelationLossWeighter
from torch import Tensor
from torch.nn import functional

from pykeen_dans import SharedNegativesTrainingLoop
from pykeen_dans.scoring.proposals import Pool, UniformProposal

#: The sizes of the smallest graph
from .shared import NUM_ENTITIES, NUM_TRIPLES, batches_of, loss_of, make_loop, train, weights_of
from .utils import training_of

# As a user types it


@pytest.mark.parametrize("name", ["shared-negatives", "shared_negatives", "SharedNegatives"])
def test_names(name: str) -> None:
    assert training_loop_resolver.lookup(name) is SharedNegativesTrainingLoop


def test_pipeline() -> None:
    result = pipeline(
        dataset="nations",
        dataset_kwargs=dict(create_inverse_triples=True),
        model="ComplEx",
        model_kwargs=dict(embedding_dim=8),
        loss="crossentropy",
        optimizer_kwargs=dict(lr=0.05),
        training_loop="shared-negatives",
        training_kwargs=dict(num_epochs=10, use_tqdm=False),
        evaluation_kwargs=dict(use_tqdm=False),
        random_seed=0,
        device="cpu",
    )
    assert result.losses[-1] < result.losses[0]
    assert result.metric_results.get_metric("mrr") > 0.4


def test_options_are_json() -> None:
    """All options can be told in a file."""
    options = dict(
        num_shared=8,
        proposal="frequency",
        proposal_kwargs=dict(power=0.5, uniform=0.2),
        replacement=True,
        sides=["tail"],
        subsampling="unique",
        subsampling_power=0.3,
        negatives_weight=4.0,
    )
    config = dict(
        metadata={},
        pipeline=dict(
            dataset="nations",
            model="TransE",
            model_kwargs=dict(embedding_dim=8),
            loss="bcewithlogits",
            training_loop="shared-negatives",
            training_loop_kwargs=options,
            training_kwargs=dict(num_epochs=2, use_tqdm=False),
            evaluation_kwargs=dict(use_tqdm=False),
            random_seed=0,
            device="cpu",
        ),
    )
    result = pipeline_from_config(json.loads(json.dumps(config)))
    assert result.losses[-1] < result.losses[0]


def test_command(tmp_path: pathlib.Path) -> None:
    command = "train complex --dataset nations --training-loop shared-negatives --number-epochs 2 --embedding-dim 8"
    done = CliRunner().invoke(pykeen_cli, [*command.split(), "--output-directory", str(tmp_path)])
    assert not done.exception, done.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["losses"]) == 2


@pytest.mark.parametrize(
    ("model", "kwargs", "inverse", "training"),
    [
        ("complex", {}, True, {}),
        ("transe", {}, False, {}),
        ("rotate", dict(loss="nssa"), False, {}),
        ("simple", dict(loss="softplus"), False, dict(label_smoothing=0.1)),
        ("kg2e", {}, False, dict(label_smoothing=0.1)),
        ("conve", dict(model_kwargs=dict(embedding_dim=16)), True, {}),
        ("tucker", {}, False, {}),
        ("nodepiece", dict(model_kwargs=dict(num_tokens=3)), True, {}),
        ("rgcn", dict(model_kwargs=dict(num_layers=1, decomposition="bases")), False, dict(sampler="schlichtkrull")),
        ("compgcn", dict(model_kwargs=dict(encoder_kwargs=dict(num_layers=1))), True, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_models(model: str, kwargs: dict[str, Any], inverse: bool, training: dict[str, Any]) -> None:
    factory = training_of("nations", create_inverse_triples=inverse)
    losses = train(make_loop(model, factory, **kwargs), factory, num_epochs=4, **training)
    assert losses[-1] < losses[0]


def test_inductive_mode() -> None:
    factory = training_of("nations", create_inverse_triples=True)
    options = dict(embedding_dim=8, num_tokens=3, loss="crossentropy")
    model = model_resolver.make(
        "inductivenodepiece", options, triples_factory=factory, inference_factory=factory, random_seed=0
    )
    losses = train(make_loop(model, factory, mode="training"), factory)
    assert losses[-1] < losses[0]
    # there is no space of entities in which to generate
    with pytest.raises(ValueError, match=r"num_vectors=2 .* rather than InductiveNodePiece with mode='training'"):
        make_loop(model, factory, mode="training", num_vectors=2)


# The loss


@pytest.mark.parametrize("num_shared", [NUM_ENTITIES, 1_000])
def test_small_graphs_are_scored_completely(num_shared: int) -> None:
    """With at least as many shared negatives as entities, the loss is that of 1vsAll, on both sides."""
    loop = make_loop("complex", num_shared=num_shared)
    batch = batches_of(loop)[0]
    heads, tails = batch["positives"][:, 0], batch["positives"][:, 2]
    expected = (
        functional.cross_entropy(loop.model.score_h(batch["positives"][:, 1:]), heads)
        + functional.cross_entropy(loop.model.score_t(batch["positives"][:, :2]), tails)
    ) / 2
    torch.testing.assert_close(loss_of(loop, batch), expected)


@pytest.mark.parametrize(
    ("sides", "inverse", "expected"),
    [
        (None, False, ["head", "tail"]),
        (None, True, ["tail"]),
        (["head"], True, ["head"]),
        (["tail", "head"], True, ["tail", "head"]),
    ],
)
def test_sides(sides: Any, inverse: bool, expected: list[str]) -> None:
    factory = training_of("nations", create_inverse_triples=inverse)
    loop = make_loop("distmult", factory, sides=sides)
    batches_of(loop, factory)
    assert list(loop._proposals) == expected


@pytest.mark.parametrize("options", [{}, dict(replacement=True), dict(proposal="frequency")], ids=str)
def test_expectation_of_the_loss(options: dict[str, Any]) -> None:
    """The sum over the pool, which is in the logarithm, is unbiased: with few candidates the loss is a little lower."""
    exact_loop, loop = make_loop(num_shared=100), make_loop(num_shared=10, **options)
    loop.model.load_state_dict(exact_loop.model.state_dict())
    exact = loss_of(exact_loop, batches_of(exact_loop, batch_size=NUM_TRIPLES)[0])
    found = torch.stack([loss_of(loop, dict(batches_of(loop, batch_size=NUM_TRIPLES)[0])) for _ in range(50)]).mean()
    assert 0.95 * exact < found < 1.005 * exact


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sub_batches_and_slices(reduction: str) -> None:
    """A batch in parts, whose pool is the same, is trained as a whole one."""
    found = []
    for kwargs in (
        {},
        dict(sub_batch_size=60),
        dict(slice_size=2),
        dict(sub_batch_size=100, slice_size=5),
    ):
        loop = make_loop(
            "complex",
            loss=loss_resolver.make("crossentropy", reduction=reduction),
            subsampling="unique",
            optimizer="sgd",
            optimizer_kwargs=dict(lr=0.001 if reduction == "sum" else 0.5),
        )
        losses = train(loop, num_epochs=1, **kwargs)
        found.append((torch.tensor(losses), weights_of(loop)))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1.0e-4, rtol=1.0e-4)


class PoolRecorder(TrainingCallback):
    """Keep the pools that were used."""

    def __init__(self) -> None:
        super().__init__()
        self.pools: list[list[int]] = []

    def on_batch(self, epoch: int, batch: Any, batch_loss: float, **kwargs: Any) -> None:
        assert isinstance(self.training_loop, SharedNegativesTrainingLoop)
        shared = self.training_loop._batch
        assert shared is not None
        self.pools.append(shared.pools["tail"].ids.tolist())


def test_pools() -> None:
    """There is one pool for all parts of a batch, and another one for the next batch."""
    recorder = PoolRecorder()
    train(make_loop(), sub_batch_size=128, callbacks=recorder, num_epochs=1, drop_last=True)
    assert len(recorder.pools) == 12
    assert recorder.pools[0::2] == recorder.pools[1::2]
    assert len(set(map(tuple, recorder.pools))) > 4


@pytest.mark.parametrize("loss", ["crossentropy", "softplus", "nssa"])
def test_nothing_but_the_answer(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the pool is the answer, and nothing else, the negatives have no part in the loss."""
    loop = make_loop(loss=loss, sides=["tail"])
    batch = batches_of(loop)[0]
    batch["positives"] = batch["positives"][batch["positives"][:, 2] == 3]
    assert len(batch["positives"])
    monkeypatch.setattr(UniformProposal, "_draw", lambda *_: Pool(torch.full((6,), 3), torch.zeros(6)))
    value = loss_of(loop, batch)
    value.backward()
    assert value.isfinite() and weights_of(loop).isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in loop.model.parameters())


def test_model_with_nan() -> None:
    """It ends with PyKEEN's error, before the model is changed any more."""
    loop = make_loop()
    embedding = loop.model.entity_representations[0]._embeddings.weight.data
    before: list[Tensor] = []

    class Damage(TrainingCallback):
        def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
            self.model.entity_representations[0]._embeddings.weight.data[3] = float("nan")
            before.append(weights_of(loop).clone())

    with pytest.raises(NonFiniteLossError):
        train(loop, callbacks=Damage())
    assert len(embedding)
    torch.testing.assert_close(weights_of(loop), before[0], equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("model", ["distmult", "complex"])
def test_default_loss(model: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where no loss was chosen, there is one that works."""
    # this is what pipelines make
    loop = make_loop(model, loss=loss_resolver.make(None))
    assert isinstance(loop.loss, CrossEntropyLoss)
    assert caplog.text.count("loss=MarginRankingLoss, which is the default, can not be corrected") == 1


# Row weights


def test_loss_weighter() -> None:
    """Weights of triples are those of their rows, and only their proportions matter in a mean."""
    relation_weights = torch.rand(55, generator=torch.Generator().manual_seed(0))
    values = []
    for factor in (1.0, 10.0):
        loop = make_loop(
            num_shared=100, loss_weighter=RelationLossWeighter(weights=factor * relation_weights), sides=["tail"]
        )
        torch.manual_seed(0)
        batch = batches_of(loop)[0]
        assert batch["pos_weights"].shape == (100,)
        values.append(loss_of(loop, batch))
    torch.testing.assert_close(*values)
    positives = batch["positives"]
    rows = functional.cross_entropy(loop.model.score_t(positives[:, :2]), positives[:, 2], reduction="none")
    weights = relation_weights[positives[:, 1]]
    torch.testing.assert_close(values[0], (rows * weights).sum() / weights.sum())


@pytest.mark.parametrize("subsampling", ["unique", "frequency"])
def test_subsampling(subsampling: Any) -> None:
    loop = make_loop(num_shared=100, subsampling=subsampling, sides=["tail"])
    batch = batches_of(loop)[0]
    positives = batch["positives"]
    rows = functional.cross_entropy(loop.model.score_t(positives[:, :2]), positives[:, 2], reduction="none")
    torch.testing.assert_close(loss_of(loop, batch), (rows * batch["query_weights"][:, 0]).mean())
    triples = training_of("nations").mapped_triples
    index = [int((triples == triple).all(dim=-1).nonzero()) for triple in positives]
    counts = torch.tensor([(triples[:, :2] == triples[i, :2]).all(dim=-1).sum() for i in index])
    if subsampling == "frequency":
        counts = counts + torch.tensor([(triples[:, 1:] == triples[i, 1:]).all(dim=-1).sum() for i in index])
    ratio = batch["query_weights"][:, 0] * counts**0.5
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_all_weights_together() -> None:
    loop = make_loop(
        subsampling="unique", loss_weighter=RelationLossWeighter(weights=torch.rand(55)), loss="bcewithlogits"
    )
    assert train(loop)[-1] < 1


# Bad input


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(num_shared=0), r"num_shared=0 is not a whole number of at least 1; choose 1 or more"),
        (dict(num_shared=2.5), r"num_shared=2.5 is not a whole number"),
        (dict(sides=[]), r"sides=\[\] is not a list of different sides; choose e.g. \['head', 'tail'\], or None"),
        (dict(sides="tail"), r"sides='tail' is not a list of different sides"),
        (dict(sides=["tail", "tail"]), r"is not a list of different sides"),
        (dict(sides=["relation"]), r"sides='relation' is unknown; choose one of head, tail"),
        (dict(subsampling="often"), r"subsampling='often' is unknown; choose one of frequency, none, unique"),
        (dict(subsampling_power=-1.0), r"subsampling_power=-1.0 is outside \[0, 10\]"),
        (dict(loss="softplus", negatives_weight=0.0), r"negatives_weight=0.0 is not positive"),
        (dict(loss="pairwiselogistic"), r"loss=PairwiseLogisticLoss can not be corrected.*loss='crossentropy'"),
        (dict(proposal="unknown"), r"proposal='unknown' is unknown; choose one of bank, frequency, uniform"),
        (dict(proposal_kwargs=dict(power=1)), r"proposal_kwargs has power, which UniformProposal does not take"),
        (
            dict(proposal="frequency", proposal_kwargs=dict(uniform=0)),
            r"uniform=0 leaves entities that nothing speaks for",
        ),
    ],
)
def test_bad_input(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_loop(**kwargs)


def test_batch_normalisation_and_slices() -> None:
    with pytest.raises(ValueError, match=r"slice_size=3 is impossible for TuckER"):
        train(make_loop("tucker"), slice_size=3)
