"""The common base of samplers whose negatives are generated: draw, mix, and nothing about networks.

A batch is made in three moves, none of which runs a network. All negatives are drawn uniformly, heads and tails in
turn. For a share of them, the ids are then drawn from the bank: one search for the queries of the positives, and one
gather. Where the bank has nothing, or the positive itself, the uniform draw stays.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from class_resolver import HintOrType
from pykeen.sampling import NegativeSampler
from pykeen.sampling.filtering import Filterer, filterer_resolver
from pykeen.typing import BoolTensor, LongTensor, MappedTriples, Target

from ..engine.coupling import Coupling, alone_engine, take_over
from ..engine.curriculum import Curriculum, CurriculumState, curriculum_resolver
from ..engine.engine import GenerationEngine
from ..engine.settings import EngineSettings
from ..generators import Generator, generator_resolver
from ..graph import HEAD, Graph
from ..utils.frames import num_epochs_of_training, positives_seen_by_training, training_triples
from ..utils.processes import SharedCounts
from ..utils.storage import content_key
from ..utils.validation import (
    lookup_by_name,
    make_by_name,
    validate_at_least,
    validate_device,
    validate_flag,
    validate_keywords,
    validate_mapping,
    validate_sequence,
    validate_share,
    validate_triples,
)
from .sides import sides_in_turn, validate_corruption_scheme

__all__ = [
    "GeneratedNegativeSampler",
]

#: The number of epochs after which the curriculum ends where there is nothing to tell it
_HORIZON = 50
#: What the generator's constructor is given by the engine
_OF_ENGINE = ("dim", "num_relations", "num_bands")


class GeneratedNegativeSampler(NegativeSampler):
    """Mix uniform negatives with generated ones.

    :param mapped_triples: shape: (num_triples, 3) the training triples
    :param num_entities: the number of entities, default: inferred from the triples
    :param num_relations: the number of relations, default: inferred from the triples
    :param num_negs_per_pos: the number of negatives for each positive, default: 1
    :param filtered: whether to mask negatives that are training triples
    :param filterer: the filterer for ``filtered``
    :param filterer_kwargs: its parameters
    :param corruption_scheme: the sides to corrupt, among ``"head"`` and ``"tail"``, default: both
    :param generator: the generator, by its name in :data:`pykeen_dans.generators.generator_resolver`: ``"diffusion"``,
        ``"two-way-gan"``, ``"hierarchical"``, ``"prior"``, ``"ridge"``, or ``"uniform"`` for none
    :param generator_kwargs: its parameters, see the class of the generator
    :param share: the share of generated negatives, in [0, 1]; the others are uniform
    :param curriculum: how the mix of hardness bands changes over training: ``"linear"``, ``"exponential"``,
        ``"constant"`` or ``"reversed"``, see :mod:`pykeen_dans.engine.curriculum`
    :param curriculum_kwargs: its parameters
    :param targets: the target rank percentile of each hardness band under the live model, easy first. Those that a
        graph of few entities cannot give are left out.
    :param num_slots: the number of ids that are kept for each query, band and source
    :param min_candidates: the fewest entities, those nearest to a generated vector, that ids are drawn from
    :param memory: the upper limit of the bank, in MiB
    :param known_answers: whether other known answers of a query may be among its negatives (``"compete"``) or never are
        (``"mask"``). The positive itself is never drawn.
    :param min_distinct: the diversity of what is generated, in [0, 1], below which a generator counts as collapsed and
        is used less in proportion, see :mod:`pykeen_dans.engine.diversity`. 0 never does that.
    :param reference_kwargs: parameters of :func:`pykeen_dans.graph.reference.reference_embedding`, by which entities
        have types and difficulty, and in whose space negatives are generated without a callback
    :param fit_steps: the number of training steps of the generator when there is no callback, default: by the size of
        the graph, see :func:`pykeen_dans.engine.settings.default_fit_steps`
    :param horizon: the number of epochs after which the curriculum ends when there is no callback to tell, default:
        those of the training, or 50 outside of one
    :param device: the device on which negatives are generated, for example ``"cuda"``, default: that of the model, and
        the CPU where there is no callback
    :param random_state: the seed of all that is generated, default: the one that torch was last given
    :param coupling: set by :class:`pykeen_dans.training.callback.CurriculumTrainingCallback`

    :raises ValueError: if an argument is invalid
    """

    hpo_default: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **NegativeSampler.hpo_default,
        "share": {"type": float, "low": 0.0, "high": 1.0, "q": 0.125},
        "curriculum": {"type": "categorical", "choices": ["linear", "exponential", "constant", "reversed"]},
        "num_slots": {"type": int, "low": 4, "high": 7, "scale": "power_two"},  # [16, 128]
    }

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        num_entities: int | None = None,
        num_relations: int | None = None,
        num_negs_per_pos: int | None = None,
        filtered: bool = False,
        filterer: HintOrType[Filterer] = None,
        filterer_kwargs: Mapping[str, Any] | None = None,
        corruption_scheme: Collection[Target] | None = None,
        generator: HintOrType[Generator] = "diffusion",
        generator_kwargs: Mapping[str, Any] | None = None,
        share: float = 0.125,
        curriculum: HintOrType[Curriculum] = None,
        curriculum_kwargs: Mapping[str, Any] | None = None,
        targets: Sequence[float] = (0.28, 0.21, 0.14, 0.07),
        num_slots: int = 16,
        min_candidates: int = 4,
        memory: float = 256.0,
        known_answers: str = "compete",
        min_distinct: float = 0.1,
        reference_kwargs: Mapping[str, Any] | None = None,
        fit_steps: int | None = None,
        horizon: int | None = None,
        device: str | None = None,
        random_state: int | None = None,
        coupling: Coupling | None = None,
    ) -> None:
        """Initialise the sampler, and without a coupling fill its bank."""
        num_entities, num_relations = validate_triples(
            mapped_triples, num_entities=num_entities, num_relations=num_relations
        )
        if num_negs_per_pos is not None:
            num_negs_per_pos = validate_at_least("num_negs_per_pos", num_negs_per_pos, 1)
        validate_flag("filtered", filtered)
        lookup_by_name("filterer", filterer_resolver, filterer)
        super().__init__(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=num_negs_per_pos,
            filtered=filtered,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
        )
        if self.num_entities < 2:
            raise ValueError(
                f"num_entities={self.num_entities}: nothing can replace the only entity; at least 2 are needed."
            )
        self.share = validate_share("share", share)
        self.sides = validate_corruption_scheme(corruption_scheme)
        self.curriculum = make_by_name("curriculum", curriculum_resolver, curriculum, curriculum_kwargs)
        if horizon is None:
            horizon = num_epochs_of_training() or _HORIZON
        self.horizon = validate_at_least("horizon", horizon, 1)
        self.num_triples = mapped_triples.shape[0]
        #: the number of positives seen, which worker processes advance too
        self.seen = SharedCounts()
        self.seen.reset(positives_seen_by_training(self.num_triples))
        self._turns: tuple[LongTensor, BoolTensor] | None = None
        settings = EngineSettings(
            targets=validate_sequence("targets", targets),
            num_slots=num_slots,
            min_candidates=min_candidates,
            memory=memory,
            known_answers=known_answers,
            min_distinct=min_distinct,
            reference_kwargs=reference_kwargs,
            device=None if device is None else str(validate_device("device", device)),
            sides=self.sides,
            seed=_validate_random_state(random_state),
        ).on(self.num_entities)
        self.coupling = coupling
        self.engine = self._make_engine(
            mapped_triples,
            settings,
            generator,
            generator_kwargs,
            None if fit_steps is None else validate_at_least("fit_steps", fit_steps, 0),
        )
        if coupling is not None and coupling.sampler is None:
            coupling.sampler = self

    def _make_engine(
        self,
        mapped_triples: MappedTriples,
        settings: EngineSettings,
        generator: HintOrType[Generator],
        generator_kwargs: Mapping[str, Any] | None,
        fit_steps: int | None,
    ) -> GenerationEngine:
        """Make the engine, or share that of other samplers.

        A sampler of other triples than those of the training under way, as for a validation loss, has the engine of the
        training, and draws uniformly for queries that are unknown there.
        """
        triples = self._training_triples(mapped_triples)
        cls = validate_keywords("generator", generator_resolver, generator, generator_kwargs, reserved=_OF_ENGINE)
        generator_kwargs = validate_mapping("generator_kwargs", generator_kwargs)
        graph = Graph(
            mapped_triples=triples,
            num_entities=self.num_entities,
            num_relations=self.num_relations,
            sides=settings.sides,
            reference_kwargs=settings.reference_kwargs,
        )
        make = functools.partial(
            GenerationEngine,
            graph=graph,
            settings=settings,
            make_generator=functools.partial(cls, num_relations=self.num_relations, **generator_kwargs),
        )
        if self.coupling is not None:
            return self.coupling.engine_for(make, curriculum=self.curriculum, share=self.share)
        key = content_key(
            triples=triples,
            options=repr((cls, settings, self.num_entities, self.num_relations, generator_kwargs, fit_steps)),
        )
        return alone_engine(key, make, fit_steps=fit_steps)

    def _training_triples(self, mapped_triples: MappedTriples) -> MappedTriples:
        """Get the triples of the training under way where there is one of the same entities, else the given ones."""
        triples = training_triples()
        limits = torch.tensor([self.num_entities, self.num_relations, self.num_entities])
        return mapped_triples if triples is None or bool((triples.amax(dim=0) >= limits).any()) else triples

    def couple(self, coupling: Coupling) -> Coupling:
        """Couple a sampler that exists already, by which its engine follows a callback from now on.

        :param coupling: a fresh coupling

        :returns: the coupling
        """
        coupling.engine_for(lambda: take_over(self.engine), curriculum=self.curriculum, share=self.share)
        self.coupling, coupling.sampler = coupling, self
        return coupling

    @property
    def state(self) -> CurriculumState:
        """What the curriculum asks for at the moment."""
        if self.coupling is not None and self.coupling.state is not None:
            return self.coupling.state
        return self.engine.state(self.curriculum, self.seen.estimate()[0] / (self.num_triples * self.horizon))

    @property
    def num_generated(self) -> float:
        """The mean number of generated negatives of each positive; they are the first ones of all its negatives."""
        return self.share * self.engine.trust * self.num_negs_per_pos if self.engine.generates else 0.0

    # docstr-coverage: inherited
    def corrupt_batch(self, positive_batch: LongTensor) -> LongTensor:  # noqa: D102
        return self.corrupt_and_tell(positive_batch)[0]

    def corrupt_and_tell(self, positive_batch: LongTensor) -> tuple[LongTensor, BoolTensor | None]:
        """Make negatives, and tell which of them are generated.

        :param positive_batch: shape: (..., 3) the positives

        :returns: shape: (..., num_negs_per_pos, 3) the negatives, and shape: (n, k) which of the first k of each are
            generated, None where none is
        """
        # the bank is in the memory of the CPU, whatever the device of those who ask
        positives = positive_batch.reshape(-1, 3).cpu()
        head, relation, tail = positives.unbind(dim=-1)
        shape = (len(positives), self.num_negs_per_pos)
        turns, corrupts_head = self._sides_in_turn(shape)
        original = (
            torch.where(corrupts_head, head[:, None], tail[:, None])
            if len(self.sides) > 1
            else (head if self.sides == (HEAD,) else tail)[:, None].expand(shape)
        )
        replacement = torch.randint(self.num_entities - 1, size=shape)
        # skip the original entity
        replacement += replacement >= original
        generated = None
        if self.num_generated > 0 and len(positives):
            generated = self._replace_from_bank(
                replacement, original, turns, queries=self._queries(head, relation, tail)
            )
        self._see(len(positives))
        negatives = positives[:, None].repeat(1, self.num_negs_per_pos, 1)
        if len(self.sides) == 1:
            negatives[..., 0 if self.sides == (HEAD,) else 2] = replacement
        else:
            # heads are where tails are not
            torch.where(corrupts_head, replacement, head[:, None], out=negatives[..., 0])
            torch.where(corrupts_head, tail[:, None], replacement, out=negatives[..., 2])
        shape = (*positive_batch.shape[:-1], self.num_negs_per_pos, 3)
        return negatives.view(shape).to(positive_batch.device), generated

    def _see(self, number: int) -> None:
        """Note that positives of training were seen, by which the curriculum moves without a callback."""
        if not _is_validation():
            self.seen.add(number)

    def draw(self, positives: LongTensor, *, side: int, num_draws: int) -> LongTensor:
        """Draw generated ids of one side alone, for those who score them by other means than triples.

        :param positives: shape: (n, 3) the positives
        :param side: the side to fill, :data:`~pykeen_dans.graph.queries.HEAD` or
            :data:`~pykeen_dans.graph.queries.TAIL`
        :param num_draws: the number of ids for each positive

        :returns: shape: (n, num_draws) entity ids on the device of the positives, -1 where there is none
        """
        head, relation, tail = positives.unbind(dim=-1)
        queries = self.engine.index.find(tail if side == HEAD else head, relation, side)
        state = self.state
        ids = self.engine.bank.draw(
            queries[None],
            num_draws=num_draws,
            band_weights=state.band_weights,
            source_weights=state.source_weights,
            turns=torch.zeros(len(positives), num_draws, dtype=torch.long, device=positives.device),
        ).long()
        # a positive is seen once, however many of its sides are filled
        if side == self.sides[0]:
            self._see(len(positives))
        if not _is_validation():
            self.engine.count(wanted=ids.numel(), fallback=(ids < 0).sum())
        return ids

    def _sides_in_turn(self, shape: tuple[int, int]) -> tuple[LongTensor, BoolTensor]:
        """Tell which side each negative replaces; neighbours differ.

        :param shape: the numbers of positives, and of negatives of each

        :returns: the position of the side among :attr:`sides`, and whether it is the head, both of shape: shape
        """
        if self._turns is None or self._turns[0].shape[0] < shape[0] or self._turns[0].shape[1] != shape[1]:
            turns = sides_in_turn(shape, len(self.sides))
            self._turns = turns, torch.tensor(self.sides)[turns] == HEAD
        return self._turns[0][: shape[0]], self._turns[1][: shape[0]]

    def _queries(self, head: LongTensor, relation: LongTensor, tail: LongTensor) -> LongTensor:
        """Find the queries of positives in the index, shape: (num_sides, n), -1 where there is none."""
        kept = torch.stack([tail if side == HEAD else head for side in self.sides])
        return self.engine.index.find(kept, relation, torch.tensor(self.sides)[:, None])

    def _replace_from_bank(
        self, replacement: LongTensor, original: LongTensor, turns: LongTensor, *, queries: LongTensor
    ) -> BoolTensor:
        """Replace the first entities of each positive by generated ones, in place.

        :param replacement: shape: (n, num_negs_per_pos) random entities
        :param original: shape: (n, num_negs_per_pos) the entities of the positive that they replace
        :param turns: shape: (n, num_negs_per_pos) which side each is for
        :param queries: shape: (num_sides, n) the queries of the positives

        :returns: shape: (n, num_draws) which of the first entities of each positive were replaced
        """
        engine, state = self.engine, self.state
        size = len(replacement)
        num_draws = math.ceil(self.num_generated)
        ids = engine.bank.draw(
            queries,
            num_draws=num_draws,
            band_weights=state.band_weights,
            source_weights=state.source_weights,
            turns=turns[:, :num_draws],
        )
        usable: BoolTensor = (ids >= 0) & (ids != original[:, :num_draws])
        if engine.settings.known_answers == "mask" and engine.bank.shared:
            usable &= ~engine.index.is_answer(queries.T.gather(1, turns[:, :num_draws]), ids)
        num_wanted = size * num_draws
        if num_draws > self.num_generated:
            # the last one only for as many positives as make up the mean
            chosen = torch.rand(size) < self.num_generated - (num_draws - 1)
            usable[:, -1] &= chosen
            num_wanted -= size - int(chosen.sum())
        generated = replacement[:, :num_draws]
        torch.where(usable, ids.long(), generated, out=generated)
        if not _is_validation():
            engine.count(wanted=num_wanted, fallback=num_wanted - usable.sum())
        return usable


def _is_validation() -> bool:
    """Tell whether batches are for the loss on validation triples, which PyKEEN computes in inference mode."""
    return torch.is_inference_mode_enabled()


def _validate_random_state(random_state: int | None) -> int:
    """Choose a seed: without one, that which torch was last given, the same from one data loader to the next."""
    return torch.initial_seed() % 2**31 if random_state is None else validate_at_least("random_state", random_state, 0)
