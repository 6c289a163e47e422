"""What a generated sampler adds to the candidates that all queries of a batch share.

Its bank holds candidates of each query, which are an exact stratum of their own (:mod:`pykeen_dans.scoring.strata`):
whatever the generator makes, the loss estimates the same. Vectors that are scored themselves stand for no entity, so
that they do change the target; how much they count is an option.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from class_resolver import HintOrType
from pykeen.sampling import BasicNegativeSampler, NegativeSampler, negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop
from pykeen.typing import LABEL_HEAD, FloatTensor, LongTensor, MappedTriples, Target
from torch import Tensor

from ..engine.engine import GenerationEngine
from ..graph import HEAD, TAIL
from ..sampling.base import GeneratedNegativeSampler
from ..scoring.proposals import BankProposal, Proposal
from ..scoring.query_forms import scores_vectors
from ..scoring.strata import OwnCandidates
from ..utils.logs import warn_once
from ..utils.validation import validate_at_least, validate_non_negative

if TYPE_CHECKING:
    from .shared_negatives import SharedNegativesTrainingLoop

__all__ = [
    "GeneratedCandidates",
    "check_sampler",
    "is_generated",
]

logger = logging.getLogger(__name__)


#: The number of positives whose queries are counted for a proposal
_COUNTED = 16_384


class _BankOfSide:
    """What the bank has for the queries of one side, as often as training sees them."""

    def __init__(self, engine: GenerationEngine, side: int) -> None:
        # always the same ones, and nothing else is drawn differently for it
        random = torch.Generator().manual_seed(engine.settings.seed)
        queries, _ = engine.graph.sample_positives(_COUNTED, random)
        self._bank, self._queries = engine.bank, queries.rows[queries.sides == side]

    @property
    def version(self) -> int:
        return self._bank.version

    def ids(self) -> LongTensor:
        return self._bank.ids[self._bank.rows(self._queries)]


class GeneratedCandidates:
    """Candidates of each query, from a generated sampler.

    :param sampler: the sampler
    :param num_own: the number of ids of each query, 0 for none
    :param num_vectors: the number of generated vectors of each query that are scored themselves, 0 for none
    :param vector_weight: the number of entities that the vectors of a query stand for together

    :raises ValueError: if a number is invalid
    """

    def __init__(
        self, sampler: GeneratedNegativeSampler, *, num_own: int, num_vectors: int, vector_weight: float
    ) -> None:
        """Initialise the candidates."""
        self.sampler = sampler
        self.num_own = validate_at_least("num_own", num_own, 0)
        self.num_vectors = validate_at_least("num_vectors", num_vectors, 0)
        self.vector_weight = validate_non_negative("vector_weight", vector_weight)

    @classmethod
    def create(
        cls,
        loop: SharedNegativesTrainingLoop,
        mapped_triples: MappedTriples,
        *,
        num_relations: int,
        proposals: Mapping[Target, Proposal],
    ) -> GeneratedCandidates | None:
        """Make the candidates of a training loop, with its sampler.

        :param loop: the training loop
        :param mapped_triples: shape: (num_triples, 3) the training triples, inverse ones included
        :param num_relations: the number of relations, inverse ones included
        :param proposals: the proposal of each side that is replaced, which follows the bank if it is one that does

        :returns: the candidates, or None where the sampler of the loop generates none
        """
        if not is_generated(loop.negative_sampler):
            return None
        made = cls(
            _make_sampler(loop, mapped_triples, num_relations=num_relations, sides=list(proposals)),
            num_own=loop.num_own,
            num_vectors=loop.num_vectors,
            vector_weight=loop.vector_weight,
        )
        if not loop.reads_bank and not loop.reads_vectors:
            warn_once(
                logger,
                "negative_sampler=%s has no effect in %s: its pool of num_shared=%d is all entities, or nothing is "
                "drawn from the bank; choose proposal='bank' with fewer, num_own, or num_vectors.",
                type(made.sampler).__name__,
                type(loop).__name__,
                loop.num_shared,
            )
        for side, proposal in proposals.items():
            made.feed(proposal, side)
        return made

    def ids(self, positives: MappedTriples, side: Target) -> OwnCandidates | None:
        """Draw ids from the bank.

        :param positives: shape: (batch_size, 3) the positives
        :param side: the side to replace

        :returns: the candidates of each query, on the device of the positives, or None where there are none
        """
        if self.num_own == 0 or not self.sampler.engine.generates:
            return None
        return OwnCandidates(self.sampler.draw(positives, side=_side(side), num_draws=self.num_own))

    def feed(self, proposal: Proposal, side: Target) -> None:
        """Let a proposal follow the bank, if it is one that does.

        :param proposal: the proposal
        :param side: the side for which it proposes
        """
        if isinstance(proposal, BankProposal) and self.sampler.engine.generates:
            proposal.follow(_BankOfSide(self.sampler.engine, _side(side)))

    def vectors(self, positives: MappedTriples, side: Target) -> tuple[Tensor, FloatTensor] | None:
        """Generate vectors.

        :param positives: shape: (batch_size, 3) the positives
        :param side: the side to replace

        :returns: shape: (batch_size, num_vectors, ...) vectors in the model's own space, and shape: (batch_size, 1) the
            logarithm of what each stands for, minus infinity for queries that training does not know; or None where
            nothing is generated (yet)
        """
        engine = self.sampler.engine
        # a collapsed generator is trusted less
        weight = self.vector_weight * engine.trust
        if self.num_vectors == 0 or weight == 0 or not engine.generates or engine.generator is None:
            return None
        rows = engine.index.find(*_query(positives.cpu(), _side(side)))
        found = engine.generate(rows.clamp(min=0)).flatten(1, 2)
        chosen = found[:, torch.randperm(found.shape[1])[: self.num_vectors]]
        log_weight = math.log(weight / chosen.shape[1])
        # vectors that are no numbers would make the gradients such, however little they weigh
        usable = (rows >= 0) & torch.isfinite(chosen).flatten(start_dim=1).all(dim=1).to(rows.device)
        log_weights = torch.where(usable, log_weight, -math.inf)[:, None].to(positives.device)
        return chosen.masked_fill(~torch.isfinite(chosen), 0).to(positives.device), log_weights


def _side(side: Target) -> int:
    return HEAD if side == LABEL_HEAD else TAIL


def _query(positives: LongTensor, side: int) -> tuple[LongTensor, LongTensor, int]:
    """Tell the kept entities, the relations, and the side of positives."""
    return positives[:, 2 if side == HEAD else 0], positives[:, 1], side


def is_generated(sampler: HintOrType[NegativeSampler]) -> bool:
    """Tell whether a sampler is one whose negatives are generated.

    :param sampler: the name, class, or instance of the sampler, None for PyKEEN's default

    :returns: whether it is
    """
    if isinstance(sampler, NegativeSampler):
        return isinstance(sampler, GeneratedNegativeSampler)
    return issubclass(negative_sampler_resolver.lookup(sampler), GeneratedNegativeSampler)


def _make_sampler(
    loop: SLCWATrainingLoop, mapped_triples: MappedTriples, *, num_relations: int, sides: Sequence[Target]
) -> GeneratedNegativeSampler:
    """Make the sampler of a training loop, or take the instance that there is.

    :param loop: the training loop
    :param mapped_triples: shape: (num_triples, 3) the training triples, inverse ones included
    :param num_relations: the number of relations, inverse ones included
    :param sides: the sides that are replaced

    :returns: the sampler

    :raises ValueError: if the sampler does not generate for these sides
    """
    options = {"corruption_scheme": list(sides), **(loop.negative_sampler_kwargs or {})}
    made = negative_sampler_resolver.make(
        loop.negative_sampler,
        pos_kwargs=options,
        mapped_triples=mapped_triples,
        num_entities=loop.model.num_entities,
        num_relations=num_relations,
    )
    assert isinstance(made, GeneratedNegativeSampler)
    if missing := {_side(side) for side in sides} - set(made.sides):
        raise ValueError(
            f"corruption_scheme={options['corruption_scheme']} leaves out {len(missing)} of the sides {tuple(sides)} "
            f"that the training loop replaces; leave it out, or choose other sides of the loop."
        )
    return made


def check_sampler(loop: SharedNegativesTrainingLoop, proposals: Iterable[Proposal]) -> None:
    """Say that a sampler was asked for in vain, or vectors of a model that cannot score them.

    :param loop: the training loop
    :param proposals: what it draws from

    :raises ValueError: if candidates were asked for that no sampler generates, or that the model can not score
    """
    if loop.reads_vectors and (loop.mode is not None or not scores_vectors(loop.model)):
        raise ValueError(
            f"num_vectors={loop.num_vectors} needs a model with one vector for each entity and without scores of its "
            f"own, in transductive training, rather than {type(loop.model).__name__} with mode={loop.mode!r}; leave it "
            f"out, or use num_own."
        )
    if is_generated(loop.negative_sampler):
        return
    if loop.num_own or loop.num_vectors:
        raise ValueError(
            f"num_own={loop.num_own} and num_vectors={loop.num_vectors} need a sampler that generates negatives; "
            f"use e.g. negative_sampler='dans_kgc', or leave them out."
        )
    if any(isinstance(proposal, BankProposal) for proposal in proposals):
        raise ValueError(
            "proposal='bank' needs a sampler that generates negatives; use e.g. negative_sampler='dans_kgc', or "
            "proposal='frequency'."
        )
    is_basic = loop.negative_sampler is None or (
        negative_sampler_resolver.lookup(loop.negative_sampler) is BasicNegativeSampler
    )
    if not is_basic or loop.negative_sampler_kwargs:
        logger.warning(
            "negative_sampler=%r with negative_sampler_kwargs=%r has no effect in %s, which draws num_shared=%d "
            "negatives for each batch by itself.",
            loop.negative_sampler,
            loop.negative_sampler_kwargs,
            type(loop).__name__,
            loop.num_shared,
        )
