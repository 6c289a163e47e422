"""Samplers and their engines: who shares one, and what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from pykeen_dans.engine import coupling
from pykeen_dans.engine.coupling import Coupling, alone_engine
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.graph import HEAD, TAIL

from .utils import make_sampler as make_small_sampler
from .utils import training_of

pytestmark = pytest.mark.usefixtures("shared_cache")

TRIPLES = training_of("nations").mapped_triples


def make_sampler(**kwargs: Any) -> Any:
    defaults = dict(curriculum="constant", share=1.0, reference_kwargs={"kind": "random", "dim": 8}, fit_steps=1)
    return make_small_sampler("nations", **{**defaults, **kwargs})


def test_known_answers_in_shared_rows_are_replaced_by_the_sampler(kept_engines: dict[str, GenerationEngine]) -> None:
    sampler = make_sampler(memory=0.01, num_negs_per_pos=8, known_answers="mask", random_state=0)
    bank, index = sampler.engine.bank, sampler.engine.index
    assert bank.shared
    assert bank.filled == 1.0
    assert list(kept_engines.values()) == [sampler.engine]
    # one entity for all queries, which is right for some and wrong for others
    entity = int(TRIPLES[0, 2])
    bank.ids.fill_(entity)
    torch.manual_seed(0)
    for column, side in ((0, HEAD), (2, TAIL)):
        negatives = sampler.corrupt_batch(TRIPLES)
        kept = TRIPLES[:, 2 - column]
        corrupted = (negatives[..., 2 - column] == kept[:, None]) & (negatives[..., column] != TRIPLES[:, column, None])
        rows = index.find(kept, TRIPLES[:, 1], side)
        is_known = index.is_answer(rows, torch.full_like(rows, entity))
        assert is_known.any()
        taken = (negatives[..., column] == entity).float()
        # where it is wrong, it is always taken; where it is right, only by chance
        assert taken[~is_known][corrupted[~is_known]].mean() == 1.0
        assert taken[is_known][corrupted[is_known]].mean() < 0.1


def test_counts_tell_what_was_found_and_start_anew(kept_engines: dict[str, GenerationEngine]) -> None:
    sampler = make_sampler(num_negs_per_pos=4, random_state=0)
    engine = sampler.engine
    # an entity of none of these positives
    engine.bank.ids.fill_(min(set(range(14)) - set(TRIPLES[:5, [0, 2]].flatten().tolist())))
    assert list(kept_engines.values()) == [engine]
    assert engine.take_counts() == {"generated": 0, "fallback": 0.0}
    sampler.corrupt_batch(TRIPLES[:5])
    assert engine.take_counts() == {"generated": 20, "fallback": 0.0}
    assert engine.take_counts() == {"generated": 0, "fallback": 0.0}
    engine.bank.ids.fill_(-1)
    sampler.corrupt_batch(TRIPLES[:5])
    assert engine.take_counts() == {"generated": 0, "fallback": 1.0}
    engine.count(wanted=10, fallback=4)
    engine.count(wanted=10, fallback=1)
    assert engine.take_counts() == {"generated": 15, "fallback": 0.25}


def test_equal_samplers_share_an_engine(kept_engines: dict[str, GenerationEngine]) -> None:
    first = make_sampler(random_state=0)
    assert make_sampler(random_state=0).engine is first.engine
    assert make_sampler(random_state=0, generator_kwargs=dict(learning_rate=1e-3)).engine is not first.engine
    assert make_sampler(random_state=0).engine is first.engine
    assert make_sampler(random_state=1).engine is not first.engine
    assert len(kept_engines) == 2


def test_the_engine_that_was_used_longest_ago_is_dropped(kept_engines: dict[str, GenerationEngine]) -> None:
    prepared: list[int] = []

    class Stub:
        def prepare_alone(self, *, fit_steps: int, use_tqdm: bool) -> None:
            prepared.append(fit_steps)

    def get(key: str) -> GenerationEngine:
        return alone_engine(key, Stub, fit_steps=7)  # type: ignore[arg-type]

    a, b = get("a"), get("b")
    assert get("a") is a
    get("c")
    assert list(kept_engines) == ["a", "c"]
    assert get("a") is a
    assert get("b") is not b
    # each one is prepared when it is made, and not again
    assert prepared == [7] * 4


def test_a_coupling_makes_its_engine_once(kept_engines: dict[str, GenerationEngine]) -> None:
    shared = Coupling()
    with pytest.raises(ValueError, match="coupling has no engine yet"):
        shared.advance(0.5)
    first, second = (make_sampler(coupling=shared, random_state=seed) for seed in (0, 1))
    assert first.engine is second.engine is shared.engine
    # nothing is generated before there is a model
    assert (first.engine.bank.ids == -1).all()
    assert not kept_engines


@pytest.fixture
def kept_engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, GenerationEngine]]:
    """Start without engines of other tests, and leave theirs alone."""
    monkeypatch.setattr(coupling, "_alone", type(coupling._alone)())
    yield coupling._alone
