"""What is drawn is where it was asked for, and what is generated is where the vectors are."""

from __future__ import annotations

import pytest
import torch

from pykeen_dans.generators import generator_resolver
from pykeen_dans.space import live_space

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
    assert made.draw(batch.cuda(), side=1, num_draws=2).device.type == "cuda"


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
