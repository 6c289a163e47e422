"""What is drawn is where it was asked for, and what is generated is where the vectors are."""

from __future__ import annotations

import pickle

import pytest
import torch

from pykeen_dans.generators import generator_resolver
from pykeen_dans.graph import HEAD, TAIL, queries
from pykeen_dans.sampling import GeneratedNegativeSampler
from pykeen_dans.space import live_space
from pykeen_dans.utils.budget import Budget
from pykeen_dans.utils.devices import DeviceCopies
from pykeen_dans.utils.processes import SharedCounts

from .utils import batch_of, check_negatives, make_sampler
from .vectors import NUM_RELATIONS, make_engine, make_model

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("sampler", ["dans_kgc", "dans", "dhns"])
def test_batch_on_another_device(sampler: str) -> None:
    """Whoever asks on a GPU is answered there, with the mask of a filterer, too."""
    batch = batch_of("nations")
    made = make_sampler("nations", sampler, num_negs_per_pos=4, share=1.0, filtered=True, filterer="exact")
    negatives, mask = made.sample(batch.cuda())
    assert mask is not None
    assert negatives.device.type == mask.device.type == "cuda"
    check_negatives(negatives.cpu(), batch, "nations")
    for _ in range(2):
        drawn = made.draw(batch.cuda(), side=TAIL, num_draws=2)
        assert drawn.device.type == "cuda"
        assert (drawn.cpu()[..., None] == rows_of(made, batch)[:, None]).any(dim=-1).all()
        # what is refreshed is seen there, too
        made.engine.refresh(Budget(units=made.engine.bank.num_rows))
    assert made.engine.take_counts()["generated"] == 2 * drawn.numel()


def rows_of(sampler: GeneratedNegativeSampler, positives: torch.Tensor) -> torch.Tensor:
    """Get all that the bank has for the tails of positives, shape: (n, row_size)."""
    queries = sampler.engine.index.find(positives[:, 0], positives[:, 1], TAIL)
    return sampler.engine.bank.ids[sampler.engine.bank.rows(queries)].flatten(start_dim=1).long()


@pytest.mark.parametrize("lookup", ["table", "search"])
@pytest.mark.parametrize("memory", [1.0, 0.02], ids=["a row each", "shared rows"])
@pytest.mark.parametrize("sampler", ["dans_kgc", "dans"])
def test_nothing_of_a_draw_goes_through_the_cpu(
    sampler: str, memory: float, lookup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meta tensor can be neither read nor copied, so that whatever tries to fails."""
    if lookup == "search":
        monkeypatch.setattr(queries, "_MAX_TABLE", 0)
    made = make_sampler("nations", sampler, share=1.0, memory=memory)
    assert made.engine.bank.shared == (memory < 1)
    batch = batch_of("nations")
    for side in (HEAD, TAIL):
        drawn = made.draw(batch.to("meta"), side=side, num_draws=3)
        assert drawn.device.type == "meta"
        assert drawn.shape == (len(batch), 3)


def test_copies_follow_what_they_are_of() -> None:
    copies, tensor, meta = DeviceCopies(), torch.arange(3), torch.device("meta")
    assert copies.get("a", tensor, tensor.device) is tensor
    first = copies.get("a", tensor, meta, version=1)
    assert first.device == meta
    assert copies.get("a", tensor, meta, version=1) is first
    assert copies.get("a", tensor, meta, version=2) is not first
    assert not pickle.loads(pickle.dumps(copies))._copies


def test_nobody_waits_for_what_is_counted_on_a_device() -> None:
    counts = SharedCounts(2)
    counts.add(3, torch.tensor(1, device="meta"))
    # that it cannot be read shows that it was not
    with pytest.raises(RuntimeError, match="meta"):
        counts.totals()
    counts.reset(0, 0)
    counts.add(3, torch.tensor(1))
    assert counts.totals() == [3, 1]


@pytest.mark.parametrize("name", ["prior", "uniform"])
def test_vectors_are_where_the_space_is(name: str) -> None:
    """Nothing that is drawn on the CPU stays there."""
    model = make_model()
    engine = make_engine(model)
    space = live_space(model).to("meta")
    generator = generator_resolver.make(name, dim=space.dim, num_relations=NUM_RELATIONS, num_bands=2).to("meta")
    queries = engine.index.select(torch.arange(5))
    vectors = generator.generate(space=space, graph=engine.graph, queries=queries, random=engine.random)
    assert vectors.device.type == "meta"
    assert vectors.shape == (5, 2, len(generator.sources), space.dim)
