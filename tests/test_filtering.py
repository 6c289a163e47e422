"""Tests of the exact filterer, with Python sets as the oracle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pykeen.datasets import Nations
from pykeen.sampling import BasicNegativeSampler
from pykeen.sampling.filtering import PythonSetFilterer, filterer_resolver

from pykeen_dans.sampling.filtering import ExactFilterer


def as_tensor(triples) -> torch.Tensor:
    """Make a tensor of triples, shape: (n, 3), also without any."""
    return torch.as_tensor(triples, dtype=torch.long).reshape(-1, 3)


triple = st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 6))
#: ids may be beyond the known ones, or negative
any_triple = st.tuples(st.integers(-3, 40), st.integers(-3, 40), st.integers(-3, 40))


@given(known=st.lists(triple, max_size=30), batch=st.lists(triple | any_triple, max_size=30))
@settings(max_examples=300, deadline=None)
def test_same_as_set(known, batch) -> None:
    """The answers are those of a set, for all ids."""
    filterer = ExactFilterer(mapped_triples=as_tensor(known))
    expected = [item in set(known) for item in batch]
    assert filterer.contains(as_tensor(batch)).tolist() == expected
    assert filterer(as_tensor(batch)).tolist() == [not answer for answer in expected]


@given(st.lists(triple, min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_whole_space(known) -> None:
    """All triples of a space larger than the known one are answered correctly: no key stands for two triples."""
    space = torch.cartesian_prod(*(torch.arange(-1, 9),) * 3)
    found = space[ExactFilterer(mapped_triples=as_tensor(known)).contains(space)]
    assert sorted(map(tuple, found.tolist())) == sorted(set(known))


@pytest.mark.parametrize("batch_dims", [(), (5,), (0,), (4, 7), (2, 3, 4)])
def test_shapes(batch_dims) -> None:
    """Any number of batch dimensions is supported, and the batch is left unchanged."""
    training = Nations().training
    exact = ExactFilterer(mapped_triples=training.mapped_triples)
    reference = PythonSetFilterer(mapped_triples=training.mapped_triples)
    batch = torch.randint(14, size=(*batch_dims, 3), generator=torch.Generator().manual_seed(0))
    copy = batch.clone()
    answer = exact.contains(batch)
    assert answer.shape == torch.Size(batch_dims)
    assert answer.dtype == torch.bool
    assert torch.equal(batch, copy)
    assert torch.equal(answer.flatten(), reference.contains(batch.reshape(-1, 3)).flatten())


@pytest.mark.parametrize("batch_dims", [(), (5,), (2, 3)])
def test_no_known_triples(batch_dims) -> None:
    """Without known triples, nothing is filtered."""
    filterer = ExactFilterer(mapped_triples=torch.empty(0, 3, dtype=torch.long))
    assert torch.equal(
        filterer(torch.zeros(*batch_dims, 3, dtype=torch.long)), torch.ones(batch_dims, dtype=torch.bool)
    )


def test_dtypes_and_strides() -> None:
    """Narrow integers do not overflow, and a view without contiguous memory is no problem."""
    size = 100_000
    known = as_tensor([(size, 999, size), (1, 2, 3)])
    filterer = ExactFilterer(mapped_triples=known.to(torch.int32))
    assert filterer.contains(known.to(torch.int32)).all()
    transposed = torch.stack([known, known], dim=-1).transpose(-1, -2)
    assert not transposed.is_contiguous()
    assert filterer.contains(transposed).all()


def test_state() -> None:
    """The keys are buffers: they move with the module, and are a part of its state."""
    filterer = ExactFilterer(mapped_triples=Nations().training.mapped_triples)
    assert set(filterer.state_dict()) == {"keys", "limits"}
    assert not list(filterer.parameters())


def test_large_ids() -> None:
    """The largest ids that fit are answered correctly, and larger ones are refused with the sizes."""
    known = as_tensor([(2**31 - 1, 0, 2**31 - 1)])
    filterer = ExactFilterer(mapped_triples=known)
    batch = as_tensor([(2**31 - 1, 0, 2**31 - 1), (2**62, 0, 2**31 - 1), (2**31 - 1, 2**62, 0)])
    assert filterer.contains(batch).tolist() == [True, False, False]
    with pytest.raises(ValueError, match=r"mapped_triples.* 2147483648 x 2 x 2147483648 .*python-set"):
        ExactFilterer(mapped_triples=as_tensor([(2**31 - 1, 1, 2**31 - 1)]))


@pytest.mark.parametrize(
    ("triples", "message"),
    [
        (torch.zeros(3, 2, dtype=torch.long), r"mapped_triples has shape \(3, 2\).*training.mapped_triples"),
        (torch.zeros(3, dtype=torch.long), r"mapped_triples has shape \(3,\)"),
        (torch.as_tensor([[0, 0, -1]]), r"mapped_triples has the negative id -1"),
    ],
)
def test_bad_input(triples, message) -> None:
    """Bad input is refused with the name, the value and the remedy."""
    with pytest.raises(ValueError, match=message):
        ExactFilterer(mapped_triples=triples)


def test_with_sampler() -> None:
    """The filterer works by name in PyKEEN's samplers, and marks exactly the known triples."""
    training = Nations().training
    assert filterer_resolver.lookup("exact") is ExactFilterer
    sampler = BasicNegativeSampler(
        mapped_triples=training.mapped_triples, num_negs_per_pos=8, filtered=True, filterer="exact"
    )
    negatives, mask = sampler.sample(training.mapped_triples[:200])
    assert mask is not None
    known = set(map(tuple, training.mapped_triples.tolist()))
    for item, kept in zip(negatives.view(-1, 3).tolist(), mask.view(-1).tolist(), strict=True):
        assert kept == (tuple(item) not in known)
