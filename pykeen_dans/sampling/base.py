"""The common base of samplers whose negatives are generated: draw, mix, and nothing about networks.

A batch is made in three moves, none of which runs a network. All negatives are drawn uniformly, heads and tails in
turn. For a share of them, the ids are then read from the bank: one search for the queries of the positives, and one
gather. Where the bank has nothing, the uniform draw stays.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from class_resolver import HintOrType
from pykeen.sampling import NegativeSampler
from pykeen.sampling.filtering import Filterer
from pykeen.typing import LABEL_HEAD, LABEL_TAIL, BoolTensor, LongTensor, MappedTriples, Target

from ..bank.decoder import Decoder
from ..engine.coupling import Coupling, alone_engine, take_over
from ..engine.curriculum import Curriculum, CurriculumState, curriculum_resolver
from ..engine.diversity import DEFAULT_MIN_DISTINCT
from ..engine.engine import GenerationEngine
from ..engine.settings import EngineSettings
from ..generators.base import Generator
from ..graph import HEAD, TAIL
from ..graph.difficulty import Difficulty, difficulty_resolver
from ..graph.reference import validate_reference_kwargs
from ..utils.frames import num_epochs_of_training
from ..utils.storage import content_key
from ..utils.validation import make_by_name, validate_at_least, validate_device, validate_positive, validate_share
from .reading import ReadingPlan, reading_plan, validate_way_shares

__all__ = [
    "GeneratedNegativeSampler",
]

logger = logging.getLogger(__name__)

#: The number of epochs after which the curriculum ends where there is nothing to tell it
_HORIZON = 50
#: The share of generated negatives at the easy and at the hard end without a callback. A bank that is never refreshed
#: is pushed down again and again, so that it is used half as much.
_ALONE_SHARE = (0.25, 0.0)
#: The resolution of band weights: each band gets its share of a table of about this many entries
_TABLE_SIZE = 4096


class GeneratedNegativeSampler(NegativeSampler):
    """Mix uniform negatives with generated ones.

    :param mapped_triples: shape: (num_triples, 3) the training triples
    :param num_entities: the number of entities, default: inferred from the triples
    :param num_relations: the number of relations, default: inferred from the triples
    :param num_negs_per_pos: the number of negatives for each positive
    :param filtered: whether to mask negatives that are training triples. Generated ones never are, uniform ones may be.
    :param filterer: the filterer for ``filtered``
    :param filterer_kwargs: its parameters
    :param corruption_scheme: the sides to corrupt, among ``"head"`` and ``"tail"``
    :param curriculum: the curriculum, see :data:`pykeen_dans.engine.curriculum.curriculum_resolver`
    :param curriculum_kwargs: its parameters, for example the ``share`` of generated negatives, whose default without a
        callback is half of what it is with one
    :param targets: the target rank percentile of each hardness band under the live model, easy first
    :param min_spread: the smallest share of all entities, those nearest to a generated vector, that is drawn from
    :param min_distinct: the diversity of what is generated, in [0, 1], below which a generator counts as collapsed and
        the share of generated negatives (and the weight of the callback's latent loss) is lowered in proportion, see
        :mod:`pykeen_dans.engine.diversity`. 0 never does that.
    :param num_slots: the number of ids kept for each query and band
    :param memory: the upper limit of the bank, in MiB
    :param decoder: the decoder, see :data:`pykeen_dans.bank.decoder.decoder_resolver`
    :param decoder_kwargs: its parameters
    :param difficulty: the difficulty of entities, see :data:`pykeen_dans.graph.difficulty.difficulty_resolver`
    :param difficulty_kwargs: its parameters
    :param num_types: the number of entity types, default: see :func:`pykeen_dans.graph.types.default_num_types`
    :param reference_kwargs: parameters of :func:`pykeen_dans.graph.reference.reference_embedding`
    :param fit_steps: the number of training steps of the generator when there is no callback
    :param horizon: the number of epochs after which the curriculum ends when there is no callback to tell, default:
        those of the training, or 50 outside of one
    :param device: the device on which negatives are generated, for example ``"cuda"``, default: that of the model, and
        the CPU where there is no callback
    :param random_state: the seed of all that is generated, default: the one that torch was last given
    :param coupling: set by :class:`pykeen_dans.training.callback.CurriculumTrainingCallback`
    :param generator_options: what the generator's constructor takes beside the sizes
    :param num_levels: the number of semantic levels. There are this many targets for each hardness band in turn.
    :param preferences: factors of the curriculum's weights, one for each target, default: all alike
    :param content: a hash of what the options refer to, by which samplers without a callback are told apart
    :param way_shares: for each pathway of the generator its share of the generated negatives, default: equal shares.
        Each hardness band is there once for each pathway.
    :param num_ways: the number of pathways of the generator

    :raises ValueError: if an argument is invalid
    """

    #: The class of the generator: all in which the samplers of this plugin differ, beside their spaces
    generator_cls: ClassVar[type[Generator]]

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        num_entities: int | None,
        num_relations: int | None,
        num_negs_per_pos: int | None,
        filtered: bool,
        filterer: HintOrType[Filterer],
        filterer_kwargs: Mapping[str, Any] | None,
        corruption_scheme: Collection[Target] | None,
        curriculum: HintOrType[Curriculum],
        curriculum_kwargs: Mapping[str, Any] | None,
        targets: Sequence[float],
        min_spread: float,
        num_slots: int,
        memory: float,
        decoder: HintOrType[Decoder],
        decoder_kwargs: Mapping[str, Any] | None,
        difficulty: HintOrType[Difficulty],
        difficulty_kwargs: Mapping[str, Any] | None,
        num_types: int | None,
        reference_kwargs: Mapping[str, Any] | None,
        fit_steps: int,
        horizon: int | None,
        device: str | None,
        random_state: int | None,
        coupling: Coupling | None,
        generator_options: Mapping[str, Any],
        num_levels: int = 1,
        preferences: Sequence[float] | None = None,
        content: str = "",
        min_distinct: float = DEFAULT_MIN_DISTINCT,
        way_shares: Sequence[float] | None = None,
        num_ways: int = 1,
    ) -> None:
        """Initialise the sampler, and without a coupling fill its bank."""
        if mapped_triples.shape[0] == 0:
            raise ValueError("mapped_triples is empty: at least one training triple is needed to generate negatives.")
        super().__init__(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            num_negs_per_pos=num_negs_per_pos,
            filtered=filtered,
            filterer=filterer,
            filterer_kwargs=filterer_kwargs,
        )
        validate_at_least("num_negs_per_pos", self.num_negs_per_pos, 1)
        validate_at_least("num_slots", num_slots, 1)
        validate_at_least("fit_steps", fit_steps, 0)
        validate_positive("memory", memory)
        if num_types is not None:
            validate_at_least("num_types", num_types, 1)
        if self.num_entities < 2:
            raise ValueError(
                f"num_entities={self.num_entities}: nothing can replace the only entity; at least 2 are needed."
            )
        self.sides = _validate_corruption_scheme(corruption_scheme)
        if horizon is None:
            horizon = num_epochs_of_training() or _HORIZON
        self.horizon = validate_at_least("horizon", horizon, 1)
        if coupling is None:
            curriculum_kwargs = {"share": _ALONE_SHARE, **(curriculum_kwargs or {})}
        self.num_triples = mapped_triples.shape[0]
        self.way_shares = validate_way_shares("way_shares", way_shares, num_ways=num_ways)
        self.curriculum = make_by_name("curriculum", curriculum_resolver, curriculum, curriculum_kwargs)
        settings = EngineSettings(
            targets=tuple(target for target in targets for _ in range(num_ways)),
            way_shares=self.way_shares,
            min_distinct=validate_share("min_distinct", min_distinct),
            min_spread=min_spread,
            num_slots=num_slots,
            memory=memory,
            decoder=decoder,
            decoder_kwargs=decoder_kwargs,
            difficulty=difficulty,
            difficulty_kwargs=difficulty_kwargs,
            num_types=num_types,
            reference_kwargs=reference_kwargs,
            device=None if device is None else str(validate_device("device", device)),
            sides=self.sides,
            # the seed that torch was last given stays the same from one data loader to the next
            seed=torch.initial_seed() % 2**31 if random_state is None else random_state,
            num_levels=num_levels,
            preferences=None if preferences is None else tuple(preferences),
        )
        #: the number of positives seen, in shared memory, so that worker processes advance it too
        self.num_seen = torch.zeros((), dtype=torch.long).share_memory_()
        self._turns: BoolTensor | None = None
        self._tiled: ReadingPlan | None = None
        self._table: tuple[CurriculumState, int, LongTensor] | None = None
        self.coupling = coupling
        make_generator = functools.partial(self.generator_cls, num_relations=self.num_relations, **generator_options)
        # for their checks alone: both are made for use when their space is known, which may be an epoch later
        make_by_name("difficulty", difficulty_resolver, difficulty, difficulty_kwargs)
        validate_reference_kwargs(reference_kwargs)
        with torch.random.fork_rng(devices=[]):
            make_generator(dim=1)
        make = functools.partial(
            GenerationEngine,
            mapped_triples=mapped_triples,
            num_entities=self.num_entities,
            num_relations=self.num_relations,
            settings=settings,
            make_generator=make_generator,
        )
        # PyKEEN's validation loss makes its data loader in inference mode, in which nothing can be trained
        with torch.inference_mode(False):
            if coupling is not None:
                self.engine = coupling.engine_for(make, curriculum=self.curriculum)
                return
            key = content_key(
                triples=mapped_triples,
                num_entities=self.num_entities,
                num_relations=self.num_relations,
                options=repr((type(self), settings, dict(generator_options), fit_steps, content)),
            )
            self.engine = alone_engine(key, make, fit_steps=fit_steps)

    def couple(self, coupling: Coupling) -> Coupling:
        """Couple a sampler that exists already, by which its engine follows a callback from now on.

        :param coupling: a fresh coupling

        :returns: the coupling
        """
        coupling.engine_for(lambda: take_over(self.engine), curriculum=self.curriculum)
        self.coupling = coupling
        return coupling

    @property
    def state(self) -> CurriculumState:
        """What the curriculum asks for at the moment."""
        if self.coupling is not None and self.coupling.state is not None:
            return self.coupling.state
        progress = self.num_seen.item() / (self.num_triples * self.horizon)
        # the table of band weights is built once an epoch, not once a batch
        epoch = math.floor(progress * self.horizon) / self.horizon
        return self.engine.state(self.curriculum, epoch)

    def _starts(self, state: CurriculumState, depth: int) -> LongTensor:
        """Lay out where the first pathway may begin to read in a row of the bank, each level as often as is asked for.

        :param state: what the curriculum asks for
        :param depth: the number of neighbouring slots that are read

        :returns: shape: (k,) positions in a row
        """
        if self._table is None or self._table[0] != state or self._table[1] != depth:
            num_slots, num_ways = self.engine.settings.num_slots, len(self.way_shares)
            # whole runs of slots, so that each is read equally often; the last run is moved where it would not fit
            first = torch.arange(0, num_slots, min(depth, num_slots)).clamp(max=max(0, num_slots - depth))
            repeats = [max(1, round(_TABLE_SIZE * weight / len(first))) for weight in state.weights]
            # the bands of one level are neighbours, one of each pathway
            bands = [(level * num_ways * num_slots + first).repeat(count) for level, count in enumerate(repeats)]
            self._table = (state, depth, torch.cat(bands))
        return self._table[2]

    # docstr-coverage: inherited
    def corrupt_batch(self, positive_batch: LongTensor) -> LongTensor:  # noqa: D102
        positives = positive_batch.reshape(-1, 3)
        head, relation, tail = positives.unbind(dim=-1)
        shape = (len(positives), self.num_negs_per_pos)
        corrupts_head = self._corrupts_head(shape)
        original = torch.where(corrupts_head, head[:, None], tail[:, None])
        replacement = torch.randint(self.num_entities - 1, size=shape)
        # skip the original entity
        replacement += replacement >= original
        state = self.state
        wanted = state.share * self.engine.trust * self.num_negs_per_pos
        if wanted > 0:
            self._replace_from_bank(
                replacement, queries=self._queries(head, relation, tail), wanted=wanted, state=state
            )
        self.num_seen += len(positives)
        negatives = torch.stack(
            [
                torch.where(corrupts_head, replacement, head[:, None]),
                relation[:, None].expand(shape),
                torch.where(corrupts_head, tail[:, None], replacement),
            ],
            dim=-1,
        )
        return negatives.view(*positive_batch.shape[:-1], self.num_negs_per_pos, 3)

    def _corrupts_head(self, shape: tuple[int, int]) -> BoolTensor:
        """Tell which negatives replace the head, in turn with those that replace the tail.

        :param shape: the numbers of positives, and of negatives of each

        :returns: shape: shape
        """
        if self._turns is None or self._turns.shape[0] < shape[0] or self._turns.shape[1] != shape[1]:
            turn = (torch.arange(shape[0])[:, None] + torch.arange(shape[1])) % len(self.sides)
            self._turns = torch.tensor(self.sides)[turn] == HEAD
        return self._turns[: shape[0]]

    def _plan(self, size: int, *, num_columns: int, num_sides: int) -> ReadingPlan:
        """Lay out which generated negative is read from where, see :class:`ReadingPlan`.

        :param size: the number of positives
        :param num_columns: the number of generated negatives for each of them
        :param num_sides: the number of sides

        :returns: a plan of at least so many rows, each of whose steps is within the slots of a band
        """
        if self._tiled is None or self._tiled.readers.shape[0] < size or self._tiled.readers.shape[1] != num_columns:
            plan = reading_plan(num_columns=num_columns, num_sides=num_sides, way_shares=self.way_shares)
            repeats = (math.ceil(size / plan.readers.shape[0]), 1)
            self._tiled = ReadingPlan(
                readers=plan.readers.repeat(repeats),
                steps=(plan.steps % self.engine.bank.num_slots).repeat(repeats),
                depth=plan.depth,
            )
        return self._tiled

    def _queries(self, head: LongTensor, relation: LongTensor, tail: LongTensor) -> LongTensor:
        """Find the queries of positives in the index, for each side that is corrupted, -1 where there is none."""
        kept = torch.stack([tail if side == HEAD else head for side in self.sides])
        return self.engine.index.find(kept, relation, torch.tensor(self.sides)[:, None])

    def _replace_from_bank(
        self, replacement: LongTensor, *, queries: LongTensor, wanted: float, state: CurriculumState
    ) -> None:
        """Replace the first entities of each positive by generated ones, in place.

        :param replacement: shape: (n, num_negs_per_pos) random entities
        :param queries: shape: (num_sides, n) the queries of the positives
        :param wanted: the mean number of generated negatives for each positive
        :param state: what the curriculum asks for
        """
        bank = self.engine.bank
        num_sides, size = queries.shape
        num_ways = len(self.way_shares)
        num_columns = math.ceil(wanted)
        plan = self._plan(size, num_columns=num_columns, num_sides=num_sides)
        # one band for each query and pathway, and neighbouring slots of it: these share a line of the processor's cache
        starts = self._starts(state, plan.depth)
        chosen_starts = starts.take(torch.randint(len(starts), size=(num_sides, num_ways, size)))
        way_offset = torch.arange(num_ways)[:, None] * bank.num_slots
        begin = (bank.rows(queries) * bank.row_size)[:, None] + way_offset + chosen_starts
        position = begin.view(num_sides * num_ways, size).T.gather(1, plan.readers[:size])
        ids = bank.read(position + plan.steps[:size])
        usable = ids >= 0
        if bank.shared:
            own = queries.T.gather(1, plan.readers[:size] // num_ways)
            usable &= ~self.engine.index.is_answer(own, ids)
        num_wanted = size * num_columns
        if num_columns > wanted:
            # the last one only for as many positives as make up the mean
            chosen = torch.rand(size) < wanted - (num_columns - 1)
            usable[:, -1] &= chosen
            num_wanted -= size - int(chosen.sum())
        generated = replacement[:, :num_columns]
        torch.where(usable, ids.long(), generated, out=generated)
        self.engine.count(wanted=num_wanted, fallback=num_wanted - int(usable.sum()))


_SIDES = {LABEL_HEAD: HEAD, LABEL_TAIL: TAIL}


def _validate_corruption_scheme(scheme: Collection[Target] | None) -> tuple[int, ...]:
    """Translate a corruption scheme into sides."""
    scheme = tuple(scheme or (LABEL_HEAD, LABEL_TAIL))
    if any(target not in _SIDES for target in scheme) or len(set(scheme)) < len(scheme):
        raise ValueError(
            f"corruption_scheme={scheme} must name 'head', 'tail', or both, once each; relations are not generated."
        )
    return tuple(_SIDES[target] for target in scheme)
