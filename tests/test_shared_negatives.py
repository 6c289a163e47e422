"""The training loop with shared negatives, as users of PyKEEN's other loops expect it."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from pykeen.cli import main as pykeen_cli
from pykeen.losses import CrossEntropyLoss, Loss, loss_resolver
from pykeen.models import Model, model_resolver
from pykeen.pipeline import pipeline, pipeline_from_config
from pykeen.stoppers import EarlyStopper
from pykeen.training import NonFiniteLossError, training_loop_resolver
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples import CoreTriplesFactory
from pykeen.triples.weights import RelationLossWeighter
from pykeen.typing import MappedTriples, Target
from torch import Tensor
from torch.nn import functional

from pykeen_dans import SharedNegativesTrainingLoop
from pykeen_dans.scoring.proposals import Pool, UniformProposal
from pykeen_dans.scoring.strata import OwnCandidates

from .utils import training_of

#: The sizes of the smallest graph
NUM_ENTITIES, NUM_TRIPLES = 14, 1592


def make_loop(
    model: str | Model = "distmult",
    factory: CoreTriplesFactory | None = None,
    *,
    cls: type[SharedNegativesTrainingLoop] = SharedNegativesTrainingLoop,
    loss: str | Loss = "crossentropy",
    model_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> SharedNegativesTrainingLoop:
    """Make a loop of a small model, whose pool is a part of the entities."""
    factory = factory or training_of("nations")
    torch.manual_seed(0)
    if not isinstance(model, Model):
        options = {"embedding_dim": 8, "loss": loss, **(model_kwargs or {})}
        if model in {"complex", "distmult"}:
            # it would be a part of losses
            options.update(regularizer="powersum", regularizer_kwargs=dict(weight=0.0))
        model = model_resolver.make(model, options, triples_factory=factory, random_seed=0)
    kwargs = dict(num_shared=6, automatic_memory_optimization=False, optimizer_kwargs=dict(lr=0.02)) | kwargs
    return cls(model=model, triples_factory=factory, **kwargs)


def train(
    loop: SharedNegativesTrainingLoop, factory: CoreTriplesFactory | None = None, *, seed: int = 0, **kwargs: Any
) -> list[float]:
    torch.manual_seed(seed)
    kwargs = dict(num_epochs=3, batch_size=256, use_tqdm=False, pin_memory=False) | kwargs
    losses = loop.train(factory or training_of("nations"), **kwargs)
    assert losses is not None
    return losses


def weights_of(loop: SharedNegativesTrainingLoop) -> Tensor:
    return torch.cat([p.detach().flatten() for p in loop.model.parameters()])


def batches_of(
    loop: SharedNegativesTrainingLoop, factory: CoreTriplesFactory | None = None, **kwargs: Any
) -> list[dict[str, Tensor]]:
    kwargs = dict(sampler=None, batch_size=100, drop_last=False, shuffle=True, pin_memory=False) | kwargs
    return list(loop._create_training_data_loader(factory or training_of("nations"), **kwargs))


def loss_of(
    loop: SharedNegativesTrainingLoop, batch: Any, start: int = 0, stop: int | None = None, **kwargs: Any
) -> Tensor:
    """Compute the loss of a batch, with a pool of its own."""
    value = loop._process_batch(batch, start, len(batch["positives"]) if stop is None else stop, **kwargs)
    return value.squeeze()


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


# Batches


def test_positives_alone() -> None:
    """An epoch has each triple once, in random order, and no negatives."""
    loop = make_loop()
    batches = batches_of(loop)
    assert [len(batch["positives"]) for batch in batches] == 15 * [100] + [92]
    assert all(batch["negatives"].shape == (len(batch["positives"]), 0, 3) for batch in batches)
    triples = torch.cat([batch["positives"] for batch in batches])
    expected = training_of("nations").mapped_triples
    assert not torch.equal(triples, expected)
    assert sorted(triples.tolist()) == sorted(expected.tolist())
    assert not torch.equal(triples, torch.cat([batch["positives"] for batch in batches_of(loop)]))


def test_inverse_triples() -> None:
    factory = training_of("nations", create_inverse_triples=True)
    loop = make_loop("distmult", factory)
    assert sum(len(batch["positives"]) for batch in batches_of(loop, factory)) == 2 * NUM_TRIPLES


def test_drop_last() -> None:
    assert [len(batch["positives"]) for batch in batches_of(make_loop(), drop_last=True)] == 15 * [100]


def test_workers() -> None:
    loop = make_loop(subsampling="unique")
    batches = batches_of(loop, num_workers=2)
    triples = torch.cat([batch["positives"] for batch in batches])
    assert sorted(triples.tolist()) == sorted(training_of("nations").mapped_triples.tolist())
    losses = train(loop, num_workers=2, num_epochs=2)
    assert losses[-1] < losses[0]


def test_subgraphs() -> None:
    """The batches of subgraphs are PyKEEN's own."""
    loop = make_loop(subsampling="unique")
    batches = batches_of(loop, sampler="schlichtkrull")
    assert all(batch["positives"].shape == (100, 3) == (len(batch["query_weights"]), 3) for batch in batches)
    with pytest.raises(ValueError, match=r"sampler='other' is unknown; choose one of None, schlichtkrull"):
        batches_of(loop, sampler="other")


def test_one_triple_a_batch() -> None:
    factory = CoreTriplesFactory.create(training_of("nations").mapped_triples[:20], num_entities=14, num_relations=55)
    assert all(loss > 0 for loss in train(make_loop("complex", factory), factory, batch_size=1))


def test_no_sampler_is_made(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    loop = make_loop(negative_sampler="bernoulli", negative_sampler_kwargs=dict(num_negs_per_pos=3))
    assert (
        caplog.text.count("negative_sampler='bernoulli' with negative_sampler_kwargs={'num_negs_per_pos': 3} has") == 1
    )
    monkeypatch.setattr("pykeen.sampling.BernoulliNegativeSampler.__init__", None)
    monkeypatch.setattr("pykeen.sampling.BasicNegativeSampler.sample", None)
    train(loop)
    caplog.clear()
    make_loop(negative_sampler="basic")
    assert "negative_sampler" not in caplog.text


# Training


def test_reproducible() -> None:
    losses = [train(make_loop(), seed=seed, num_epochs=1) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_checkpoints(tmp_path: pathlib.Path) -> None:
    """A training that is resumed goes on as if it had not been interrupted."""
    checkpoint = dict(checkpoint_name="test.pt", checkpoint_directory=tmp_path, checkpoint_frequency=0)
    uninterrupted = make_loop()
    expected = train(uninterrupted, num_epochs=4)
    train(make_loop(), num_epochs=2, **checkpoint)
    resumed = make_loop()
    assert train(resumed, num_epochs=4, seed=5, **checkpoint) == pytest.approx(expected)
    torch.testing.assert_close(weights_of(resumed), weights_of(uninterrupted))


def test_early_stopping() -> None:
    result = pipeline(
        dataset="nations",
        model="DistMult",
        model_kwargs=dict(embedding_dim=8),
        loss="crossentropy",
        optimizer_kwargs=dict(lr=0.1),
        training_loop="shared-negatives",
        training_kwargs=dict(num_epochs=60, use_tqdm=False),
        stopper="early",
        stopper_kwargs=dict(frequency=2, patience=2, relative_delta=0.002),
        evaluation_kwargs=dict(use_tqdm=False),
        random_seed=0,
        device="cpu",
    )
    assert isinstance(result.stopper, EarlyStopper)
    assert result.stopper.stopped
    assert len(result.losses) < 60


def test_memory_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is short, batches are divided first, and then the pool."""
    tried: list[tuple[int, int | None]] = []
    process = SharedNegativesTrainingLoop._process_batch

    def short_of_memory(self: Any, batch: Any, start: int, stop: int, *args: Any, **kwargs: Any) -> Tensor:
        slice_size = kwargs.get("slice_size")
        tried.append((stop - start, slice_size))
        if stop - start > 1 or slice_size is None or slice_size > 2:
            raise RuntimeError("CUDA out of memory.")
        return process(self, batch, start, stop, *args, **kwargs)

    monkeypatch.setattr(SharedNegativesTrainingLoop, "_process_batch", short_of_memory)
    factory = CoreTriplesFactory.create(training_of("nations").mapped_triples[:20], num_entities=14, num_relations=55)
    train(make_loop("distmult", factory, automatic_memory_optimization=True), factory, batch_size=4)
    assert (4, None) in tried and (1, None) in tried and (1, 3) in tried
    assert tried[-1] == (1, 2)


def test_memory_search_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("CUDA out of memory.")

    monkeypatch.setattr(SharedNegativesTrainingLoop, "_process_batch", no_memory)
    with pytest.raises(MemoryError, match=r"Even slice_size=1 does not fit into the memory with batch_size=4"):
        train(make_loop(automatic_memory_optimization=True), batch_size=4)
    with pytest.raises(MemoryError, match=r"TuckER has batch normalisation.*batch_size or num_shared smaller"):
        train(make_loop("tucker", automatic_memory_optimization=True), batch_size=4)


def test_mixed_precision() -> None:
    loop = make_loop("complex")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = train(loop)
    assert losses[-1] < losses[0]
    assert weights_of(loop).dtype is torch.float32


def test_double_precision() -> None:
    loop = make_loop("transe")
    loop.model = loop.model.double()
    batch = batches_of(loop)[0]
    assert loss_of(loop, batch).dtype is torch.float64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("proposal", ["uniform", "frequency"])
def test_nothing_waits_for_the_gpu(proposal: str) -> None:
    """No step of the loop itself moves anything between GPU and CPU."""
    loop = make_loop("complex", proposal=proposal, subsampling="unique")
    loop.model = loop.model.to("cuda")
    loader = loop._create_training_data_loader(
        training_of("nations"), sampler=None, batch_size=100, drop_last=False, shuffle=True, pin_memory=True
    )
    batches = iter(loader)
    for number in range(5):
        # tables are moved there with the first pool
        torch.cuda.set_sync_debug_mode("default" if number == 0 else "error")
        try:
            batch = next(batches)
            assert batch["positives"].is_cuda
            loss_of(loop, batch).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


# Candidates of each query


class WithCandidates(SharedNegativesTrainingLoop):
    """Add candidates that are chosen badly."""

    choice: str = "same"

    def own_candidates(self, positives: MappedTriples, side: Target) -> OwnCandidates | None:
        if self.choice == "all":
            return OwnCandidates(torch.arange(self.model.num_entities).expand(len(positives), -1))
        if self.choice == "same":
            return OwnCandidates(torch.full((len(positives), 4), 5))
        with torch.no_grad():
            is_tail = side == "tail"
            scores = self.model.score_t(positives[:, :2]) if is_tail else self.model.score_h(positives[:, 1:])
        hardest = scores.topk(5, dim=-1).indices
        # a place without a candidate
        return OwnCandidates(functional.pad(hardest, (0, 1), value=-1))


def make_bad_loop(choice: str, **kwargs: Any) -> SharedNegativesTrainingLoop:
    return make_loop(cls=type("Bad", (WithCandidates,), dict(choice=choice)), **kwargs)


def test_all_entities_as_candidates() -> None:
    """If candidates are all entities, the pool has no part in the loss, which is exact."""
    exact_loop, loop = make_loop("complex", num_shared=100), make_bad_loop("all", model="complex", num_shared=3)
    torch.manual_seed(0)
    batch = batches_of(loop)[0]
    batches_of(exact_loop)
    torch.testing.assert_close(loss_of(loop, batch), loss_of(exact_loop, dict(batch)))


@pytest.mark.parametrize("choice", ["same", "hardest"])
def test_expectation_with_bad_candidates(choice: str) -> None:
    """Bad candidates leave the expectation where it is."""
    exact_loop, loop = make_loop(num_shared=100), make_bad_loop(choice, num_shared=10)
    exact = loss_of(exact_loop, batches_of(exact_loop, batch_size=NUM_TRIPLES)[0])
    batch = batches_of(loop, batch_size=NUM_TRIPLES)[0]
    found = torch.stack([loss_of(loop, dict(batch)) for _ in range(50)]).mean()
    assert 0.95 * exact < found < 1.005 * exact


def test_sub_batches_with_candidates() -> None:
    found = []
    for sub_batch_size in (None, 100):
        loop = make_bad_loop("hardest", model="complex", optimizer="sgd", optimizer_kwargs=dict(lr=0.5))
        found.append((torch.tensor(train(loop, sub_batch_size=sub_batch_size)), weights_of(loop)))
    torch.testing.assert_close(*found, atol=1.0e-4, rtol=1.0e-4)


@pytest.mark.slow
def test_training_with_bad_candidates() -> None:
    """A model that is trained with bad candidates is as good as one without them."""
    found = {}
    for choice in ("none", "same", "hardest"):
        cls = type(f"With{choice}", (WithCandidates,), dict(choice=choice))
        result = pipeline(
            dataset="umls",
            dataset_kwargs=dict(create_inverse_triples=True),
            model="ComplEx",
            model_kwargs=dict(embedding_dim=32),
            loss="crossentropy",
            optimizer="adagrad",
            optimizer_kwargs=dict(lr=0.1),
            training_loop=SharedNegativesTrainingLoop if choice == "none" else cls,
            training_loop_kwargs=dict(num_shared=32),
            training_kwargs=dict(num_epochs=30, batch_size=512, use_tqdm=False),
            evaluation_kwargs=dict(use_tqdm=False),
            random_seed=0,
            device="cpu",
        )
        found[choice] = result.metric_results.get_metric("mrr")
    assert found["none"] > 0.7
    assert found["same"] > found["none"] - 0.02
    assert found["hardest"] > found["none"] - 0.02


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
        (dict(proposal="unknown"), r"proposal='unknown' is unknown; choose one of frequency, uniform"),
        (dict(proposal_kwargs=dict(power=1)), r"proposal_kwargs has power, which UniformProposal does not take"),
        (dict(proposal="frequency", proposal_kwargs=dict(uniform=0)), r"uniform=0 leaves entities without"),
    ],
)
def test_bad_input(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_loop(**kwargs)


def test_batch_normalisation_and_slices() -> None:
    with pytest.raises(ValueError, match=r"slice_size=3 is impossible for TuckER"):
        train(make_loop("tucker"), slice_size=3)
