r"""Proposals: from what distribution a batch's shared candidates are drawn, and what each of them stands for.

A proposal draws a pool of ids $e_1, \ldots, e_M$ with log weights $w_j$, such that for all functions $f$ of entities

.. math::

    \mathbb{E} \left[ \sum_{j=1}^M \exp(w_j) f(e_j) \right] = \sum_e f(e)

With $M$ draws from $q$, these are the weights of Horvitz and Thompson [Horvitz1952]_, $w_j = -\log(M q(e_j))$. They do
not depend on the query. So the sum over all entities *but some* is estimated by leaving these out of the pool, however
they were chosen, so long as the pool had no part in it: the answer itself, and whatever was scored by other means. Of a
uniform pool, $M (|E| - 1) / |E|$ draws are expected to be left without the answer, which makes the weight of each the
same as $(|E| - 1)$ divided by that number.

By default, pools are stratified: the unit interval of cumulated probabilities is cut into $M$ equal parts, and one
entity is drawn from each. Weights stay what they are, and sums over the pool vary less than with independent draws. An
entity with $M q(e) \geq 1$ comes once, for sure, and stands for itself; draws that it does not need are left to others.
With $\pi(e)$ for the number of times that an entity is expected to come, $w_j = -\log \pi(e_j)$.

Regularisers do not know of weights. A pool that is not uniform has *representatives*, which they see in its place: as
many entities, each of which is expected as often as any other, and as many of them from the pool as that allows. A draw
is kept with a probability in proportion to what it stands for, and replaced by a uniform one otherwise. That they are
from the pool matters to optimizers that adapt: what is regularized alone takes a whole step towards zero.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol

import torch
from class_resolver import ClassResolver
from pykeen.typing import FloatTensor, LongTensor
from torch import Tensor

from ..utils.validation import (
    validate_at_least,
    validate_between,
    validate_finite,
    validate_non_negative,
    validate_share,
)

__all__ = [
    "BankProposal",
    "FrequencyProposal",
    "Pool",
    "Proposal",
    "ProposedIds",
    "UniformProposal",
    "proposal_resolver",
]


class Pool(NamedTuple):
    """Candidates that all queries of a batch share."""

    #: The ids, shape: ``(num_shared,)``
    ids: LongTensor
    #: The logarithm of the number of entities that each of them stands for, shape: ``(num_shared,)``
    log_weights: FloatTensor
    #: Whether it is known that no id comes twice, by which masks are made faster
    distinct: bool = False
    #: Ids that stand for all entities alike, shape: ``(num_shared,)``, None where those of the pool do
    representatives: LongTensor | None = None


class Proposal(ABC):
    """A distribution over entities, for one side of triples."""

    def __init__(self, *, num_entities: int, answers: LongTensor | None = None, replacement: bool = False) -> None:
        """Initialize the proposal.

        :param num_entities: the number of entities
        :param answers: shape: ``(num_triples,)``
            the entities of the side in training, once for each triple, for proposals that depend on them
        :param replacement: whether draws are independent of each other. By default they are stratified, so that an
            entity comes twice only where it lies on the edge of two strata.

        :raises ValueError: if there are no entities
        """
        self.num_entities = validate_at_least("num_entities", num_entities, 1)
        self.replacement = replacement

    def draw(self, size: int, *, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Pool:
        """Draw a pool.

        :param size: the number of draws; some proposals add more. If there are not more entities than that, the pool is
            all of them, with weights of one.
        :param device: the device on which to draw
        :param generator: the source of randomness, on the same device, default: the device's default generator

        :returns: the pool

        :raises ValueError: if the size is smaller than one
        """
        size = self.enlarge(validate_at_least("size", size, 1))
        if size >= self.num_entities:
            ids = torch.arange(self.num_entities, device=device)
            return Pool(ids, torch.zeros(self.num_entities, device=device), distinct=True)
        return self._draw(size, torch.device(device), generator)

    def enlarge(self, size: int) -> int:
        """Tell how many candidates there are in a pool of so many draws.

        :param size: the number of draws that is asked for

        :returns: the number of candidates, if there are more entities than that
        """
        return size

    @abstractmethod
    def _draw(self, size: int, device: torch.device, generator: torch.Generator | None) -> Pool:
        """Draw a pool that is smaller than the number of entities."""
        raise NotImplementedError

    @abstractmethod
    def probabilities(self) -> FloatTensor:
        """Return the probability of each entity in a single draw, shape: ``(num_entities,)``."""
        raise NotImplementedError


def _spread(
    num_entities: int, size: int, device: torch.device, generator: torch.Generator | None
) -> tuple[LongTensor, LongTensor]:
    """Draw different ids, one from each of so many parts that begin anywhere, and tell how large the parts are."""
    # the first parts have one entity more where they can not all have the same number, and weigh more
    length, remainder = divmod(num_entities, size)
    index = torch.arange(size, device=device)
    lengths = length + (index < remainder).long()
    starts = index * length + index.clamp_max(remainder)
    # double precision, since single precision can not tell 2^24 ids from each other
    uniform = torch.rand(size + 1, device=device, generator=generator, dtype=torch.double)
    within = (uniform[:-1] * lengths).long()
    offset = (uniform[-1] * num_entities).long()
    return (starts + within + offset) % num_entities, lengths


class UniformProposal(Proposal):
    """All entities are equally probable.

    The cost of a draw does not depend on the number of entities. Without replacement, ids come once: the range of ids
    is cut into as many parts as there are draws, beginning anywhere.
    """

    def _draw(self, size: int, device: torch.device, generator: torch.Generator | None) -> Pool:
        if self.replacement:
            ids = torch.randint(self.num_entities, size=(size,), device=device, generator=generator)
            return Pool(ids, (torch.full((size,), self.num_entities / size, device=device)).log())
        ids, lengths = _spread(self.num_entities, size, device, generator)
        return Pool(ids, lengths.to(torch.get_default_dtype()).log(), distinct=True)

    def probabilities(self) -> FloatTensor:  # noqa: D102
        return torch.full((self.num_entities,), 1 / self.num_entities)


class _Table(NamedTuple):
    """What draws of one size need, in an order of entities: see :class:`_TableProposal`."""

    #: The ids, those that come for sure first, shape: ``(num_entities,)``
    ids: LongTensor
    #: The cumulated numbers of times that they are expected to come, shape: ``(num_entities,)``
    cumulated: FloatTensor
    #: The logarithm of what each of them stands for if it comes, shape: ``(num_entities,)``
    log_weights: FloatTensor
    #: The largest of these, a scalar
    largest: FloatTensor


class _TableProposal(Proposal):
    """Any distribution, kept in a table of all entities and mixed with the uniform one.

    The mixture is our choice: it bounds the weight of an entity by ``1 / uniform`` times that of a uniform pool.
    """

    def __init__(
        self, *, num_entities: int, answers: LongTensor | None = None, replacement: bool = False, uniform: float = 0.5
    ) -> None:
        super().__init__(num_entities=num_entities, answers=answers, replacement=replacement)
        self.uniform = validate_share("uniform", validate_finite("uniform", uniform))
        if uniform == 0:
            raise ValueError("uniform=0 leaves entities that nothing speaks for out of all pools; choose e.g. .1.")

    def _fill(self, weights: Tensor) -> None:
        """Set the table, from weights that need not sum to one; where all are zero, it is the uniform distribution."""
        # double precision, so that sums over many entities keep the small ones
        weights = weights.double()
        share = self.uniform if (total := weights.sum()) > 0 else 1.0
        self._probabilities = (1 - share) * weights / total.clamp_min(1) + share / self.num_entities
        self._tables: dict[tuple[int, torch.device], _Table] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what is made when it is needed, so that results on disk stay small."""
        return {**vars(self), "_tables": {}}

    def probabilities(self) -> FloatTensor:
        return self._probabilities.to(torch.get_default_dtype())

    def _draw(self, size: int, device: torch.device, generator: torch.Generator | None) -> Pool:
        if (size, device) not in self._tables:
            self._tables[size, device] = self._make_table(size, device)
        table = self._tables[size, device]
        # double precision, since single precision can not tell 2^24 ids from each other
        places = torch.rand(size, device=device, generator=generator, dtype=torch.double)
        places = size * places if self.replacement else torch.arange(size, device=device) + places
        positions = torch.searchsorted(table.cumulated, places, right=True).clamp_max_(self.num_entities - 1)
        ids, log_weights = table.ids[positions], table.log_weights[positions]
        # by rejection: whatever its probability, an entity is drawn and kept as often as any other
        kept = torch.rand(size, device=device, generator=generator).log() <= log_weights - table.largest
        others, _ = _spread(self.num_entities, size, device, generator)
        return Pool(ids, log_weights, representatives=torch.where(kept, ids, others))

    def _make_table(self, size: int, device: torch.device) -> _Table:
        """Tell how often each entity is expected among so many draws; without replacement, once at most."""
        expected = size * self._probabilities
        certain = torch.zeros_like(expected, dtype=torch.bool)
        # what an entity does not need is left to the others, among which there may be more that come for sure
        while not self.replacement and bool((more := ~certain & (expected >= 1)).any()):
            certain |= more
            rest = self._probabilities.masked_fill(certain, 0.0)
            expected = torch.where(certain, 1.0, (size - certain.sum()) * rest / rest.sum())
        # each of those that come for sure has a stratum of its own, from which nothing else is drawn
        ids = certain.to(torch.uint8).argsort(descending=True, stable=True)
        cumulated = expected[ids].cumsum(dim=0)
        log_weights = -expected[ids].log().to(torch.get_default_dtype())
        cumulated = cumulated * (size / cumulated[-1])
        return _Table(*(part.to(device) for part in (ids, cumulated, log_weights, log_weights.max())))


class FrequencyProposal(_TableProposal):
    r"""Entities are as probable as they are frequent in training on this side, to a power, mixed with the uniform one.

    Frequent entities are the plausible ones for most queries, and hence those whose scores matter most for the sum. The
    power is that of word2vec [Mikolov2013]_, where it is .75 for words.
    """

    def __init__(
        self,
        *,
        num_entities: int,
        answers: LongTensor | None = None,
        replacement: bool = False,
        power: float = 0.75,
        uniform: float = 0.5,
    ) -> None:
        """Initialize the proposal.

        :param num_entities: the number of entities
        :param answers: shape: ``(num_triples,)``
            the entities of the side in training, once for each triple
        :param replacement: see :class:`Proposal`
        :param power: the power of the frequencies, 0 or more
        :param uniform: the share of the uniform distribution, larger than 0, since all entities have to be possible

        :raises ValueError: if a value is invalid, or if there are no answers
        """
        super().__init__(num_entities=num_entities, answers=answers, replacement=replacement, uniform=uniform)
        validate_between("power", power, 0, 10)
        if answers is None or not len(answers):
            raise ValueError(
                "proposal='frequency' has no training triples to count; pass answers, or use proposal='uniform'."
            )
        counts = torch.bincount(answers.cpu(), minlength=num_entities).double()
        self._fill(torch.where(counts > 0, counts**power, 0.0))


class ProposedIds(Protocol):
    """Ids that change now and then."""

    @property
    def version(self) -> int:
        """A number that changes whenever ids do, 0 while there are none."""

    def ids(self) -> LongTensor:
        """Return ids of queries as training sees them, in any shape, -1 for none."""


class BankProposal(_TableProposal):
    """Entities as a generator proposes them for the queries of this side, on top of a uniform pool.

    What is generated for one query is likely to be hard for others, too. There are ``added`` draws from the bank for
    each uniform one. So whatever is generated, an entity is in the pool at least as often as without it, with a weight
    at most as large: it is a better pool, if only by a little, at the price of being larger. The bank is counted anew
    whenever something new was generated; until then, the pool is a uniform one. It is our choice, and no part of any
    paper.
    """

    def __init__(
        self, *, num_entities: int, answers: LongTensor | None = None, replacement: bool = False, added: float = 0.25
    ) -> None:
        """Initialize the proposal.

        :param num_entities: the number of entities
        :param answers: see :class:`Proposal`; they are not used
        :param replacement: see :class:`Proposal`
        :param added: the number of draws from the bank for each uniform one, by which the pool is larger

        :raises ValueError: if a value is invalid
        """
        validate_non_negative("added", added)
        uniform = 1 / (1 + added)
        super().__init__(num_entities=num_entities, answers=answers, replacement=replacement, uniform=uniform)
        self.added = added
        self._source: ProposedIds | None = None
        self._counted = 0
        self._fill(torch.zeros(num_entities))

    def enlarge(self, size: int) -> int:  # noqa: D102
        return size + math.ceil(self.added * size)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the bank behind; a training names it anew."""
        return {**super().__getstate__(), "_source": None}

    def follow(self, source: ProposedIds) -> None:
        """Name the bank whose ids are counted.

        :param source: the ids of the bank for the queries of this side
        """
        self._source = source

    def _draw(self, size: int, device: torch.device, generator: torch.Generator | None) -> Pool:
        if self._source is not None and (version := self._source.version) != self._counted:
            self._counted = version
            ids = self._source.ids()
            self._fill(torch.bincount(ids[ids >= 0], minlength=self.num_entities))
        return super()._draw(size, device, generator)


#: A resolver for proposals
proposal_resolver: ClassResolver[Proposal] = ClassResolver(
    [UniformProposal, FrequencyProposal, BankProposal],
    base=Proposal,  # type: ignore[type-abstract]
    default=UniformProposal,
)
