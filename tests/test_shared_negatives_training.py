"""The training loop with shared negatives: batches, training, and candidates of each query."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import torch
from pykeen.pipeline import pipeline
from pykeen.stoppers import EarlyStopper
from pykeen.trackers import PythonResultTracker
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import MappedTriples, Target
from torch import Tensor
from torch.nn import functional

from pykeen_dans import SharedNegativesTrainingLoop
from pykeen_dans.scoring.strata import OwnCandidates

#: The sizes of the smallest graph
from .shared import NUM_TRIPLES, batches_of, loss_of, make_loop, train, weights_of
from .trainings import run_pipeline
from .utils import training_of

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
            optimizer_kwargs=dict(lr=0.2),
            training_loop=SharedNegativesTrainingLoop if choice == "none" else cls,
            training_loop_kwargs=dict(num_shared=32),
            training_kwargs=dict(num_epochs=12, batch_size=512, use_tqdm=False),
            evaluation_kwargs=dict(use_tqdm=False),
            random_seed=0,
            device="cpu",
        )
        found[choice] = result.metric_results.get_metric("mrr")
    assert found["none"] > 0.7
    assert found["same"] > found["none"] - 0.02
    assert found["hardest"] > found["none"] - 0.02


def test_it_tells_how_many_entities_matter() -> None:
    """The first batch of each epoch tells it, for both sides, and it falls as the model learns."""
    tracker = PythonResultTracker()
    run_pipeline(
        "nations",
        epochs=20,
        loss="crossentropy",
        training_loop="shared-negatives",
        negative_sampler=None,
        negative_sampler_kwargs=None,
        optimizer_kwargs=dict(lr=0.1),
        training_kwargs={},
        result_tracker=tracker,
    )
    for side in ("head", "tail"):
        numbers = [tracker.metrics[epoch][f"negatives.effective_entities_{side}"] for epoch in (1, 20)]
        assert 14 >= numbers[0] > numbers[1] >= 1
