"""The engine behind a sampler: spaces, generator, decoder and bank, and the work that is done between epochs.

The sampler only reads the bank. Everything that costs time is here, is done in parts, and ends when its budget ends.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pykeen.typing import LongTensor, MappedTriples
from torch import Tensor
from tqdm.auto import tqdm

from ..bank import NegativeBank
from ..bank.decoder import decoder_resolver
from ..generators.base import Budget, FitReport, Generator, World
from ..graph import Graph
from ..graph.reference import ReferenceEmbedding
from ..space.entity_space import EntitySpace, reference_space
from ..utils.validation import make_by_name
from .curriculum import Curriculum, CurriculumState
from .diversity import Diversity, measure_diversity
from .settings import EngineSettings
from .steering import HardnessSteering, rank_percentiles

__all__ = [
    "GenerationEngine",
    "RefreshReport",
]

if TYPE_CHECKING:
    from pykeen.models import Model

logger = logging.getLogger(__name__)

#: The smallest spread where no model tells how hard candidates are, and the bank is never refreshed
_ALONE_SPREAD = 0.3
#: The number of queries that are generated for at once
_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class RefreshReport:
    """What a refresh of the bank came to.

    :param queries: the number of queries that were generated for
    :param seconds: the wall time in seconds
    :param empty: the share of slots for which a query had no candidate, to be filled uniformly
    """

    queries: int
    seconds: float
    empty: float


class GenerationEngine:
    """Generate negatives for the queries of a graph, and keep them in a bank.

    :param mapped_triples: shape: (num_triples, 3) the training triples
    :param num_entities: the number of entities
    :param num_relations: the number of relations
    :param settings: the options
    :param make_generator: makes a generator for spaces of the given dimension
    """

    def __init__(
        self,
        *,
        mapped_triples: MappedTriples,
        num_entities: int,
        num_relations: int,
        settings: EngineSettings,
        make_generator: Callable[..., Generator],
    ) -> None:
        """Index the queries and allocate the bank; nothing is trained yet."""
        self.mapped_triples = mapped_triples
        self.num_entities = num_entities
        self.num_relations = num_relations
        self.settings = settings
        self.make_generator = make_generator
        self.random = torch.Generator().manual_seed(settings.seed)
        self.graph = Graph(
            mapped_triples=mapped_triples,
            num_entities=num_entities,
            num_relations=num_relations,
            sides=settings.sides,
            reference_kwargs=settings.reference_kwargs,
        )
        self.index = self.graph.index
        self.decoder = make_by_name("decoder", decoder_resolver, settings.decoder, settings.decoder_kwargs)
        self.steering = HardnessSteering(
            settings.targets,
            min_spread=min(1.0, max(settings.min_spread, self.decoder.min_candidates / num_entities)),
            num_levels=settings.num_levels,
        )
        self.space: EntitySpace | None = None
        self.generator: Generator | None = None
        #: the factor of the share of generated negatives, and of the latent loss, below 1 in a collapse
        self.trust = 1.0
        self._least_trust = 1.0
        #: generated ids that samplers asked for, and those of them that stayed uniform, shared with worker processes
        self._counts = torch.zeros(2, dtype=torch.long).share_memory_()
        self._pending: LongTensor = torch.empty(0, dtype=torch.long)

    @property
    def num_bands(self) -> int:
        """The number of bands, over hardness levels, semantic levels and pathways, the last being the fastest axis."""
        return len(self.settings.targets)

    @property
    def num_choices(self) -> int:
        """The number of bands among which a curriculum chooses, which leaves pathways to take turns."""
        return self.num_bands // self.settings.num_ways

    def state(self, curriculum: Curriculum, progress: float) -> CurriculumState:
        """Ask a curriculum what it wants of the bands.

        :param curriculum: the curriculum
        :param progress: the progress of training in [0, 1]

        :returns: the state
        """
        num_levels = self.settings.num_levels
        return curriculum(
            progress,
            num_bands=self.num_choices // num_levels,
            num_levels=num_levels,
            preferences=self.settings.preferences,
        )

    @functools.cached_property
    def reference(self) -> ReferenceEmbedding:
        """The pre-trained reference embedding."""
        return self.graph.reference

    @functools.cached_property
    def world(self) -> World:
        """What the generator knows of the graph."""
        return World(
            index=self.index,
            types=self.graph.types(self.settings.num_types),
            difficulty=self.graph.difficulty(self.settings.difficulty, self.settings.difficulty_kwargs),
        )

    @functools.cached_property
    def bank(self) -> NegativeBank:
        """The bank, in which queries share rows by side, relation and type of the kept entity when memory is short."""
        bank_kwargs: dict[str, Any] = {
            "num_queries": self.index.num_queries,
            "num_bands": self.num_bands,
            "num_slots": self.settings.num_slots,
            "memory": self.settings.memory,
        }
        if 4 * self.index.num_queries * self.num_bands * self.settings.num_slots <= (self.settings.memory * 2**20):
            return NegativeBank(**bank_kwargs)
        queries = self.index.select(torch.arange(self.index.num_queries))
        relation = queries.sides * self.num_relations + queries.relations
        types = self.world.types
        return NegativeBank(**bank_kwargs, groups=relation * types.num_types + types.labels[queries.kept])

    def enter(self, space: EntitySpace) -> None:
        """Generate in this space from now on.

        :param space: the current entity vectors. The generator is kept while their dimension and device are.
        """
        if self.settings.device is not None:
            space = space.to(self.settings.device)
        if (
            self.generator is None
            or self.space is None
            or (self.space.dim, self.space.device) != (space.dim, space.device)
        ):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.settings.seed)
                self.generator = self.make_generator(dim=space.dim)
            self.generator.to(space.device)
        self.space = space

    def fit(self, budget: Budget) -> FitReport:
        """Train the generator.

        :param budget: the number of steps or of seconds

        :returns: what it came to
        """
        if self.generator is None or self.space is None:
            raise ValueError("space is not set: call enter(space) before fit().")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, size=(), generator=self.random)))
            return self.generator.fit(space=self.space, world=self.world, budget=budget, random=self.random)

    def generate(self, rows: LongTensor) -> Tensor:
        """Generate vectors for queries, without decoding them.

        :param rows: shape: (n,) positions of queries in the index

        :returns: shape: (n, num_bands, ...) vectors in the model's own space
        """
        latent, spaces = self.generate_standardised(rows)
        return torch.stack([space.restore(latent[:, band]) for band, space in enumerate(spaces)], dim=1)

    def generate_standardised(
        self, rows: LongTensor, random: torch.Generator | None = None
    ) -> tuple[Tensor, Sequence[EntitySpace]]:
        """Generate vectors for queries, as decoders take them.

        :param rows: shape: (n,) positions of queries in the index
        :param random: the source of randomness, default: the engine's own

        :returns: shape: (n, num_bands, dim) standardised vectors, and the space of each band

        :raises ValueError: if there is no space yet
        """
        if self.generator is None or self.space is None:
            raise ValueError("space is not set: call enter(space) before anything is generated.")
        queries = self.index.select(rows)
        latent = self.generator.generate(
            space=self.space, world=self.world, queries=queries, random=random or self.random
        )
        return latent, self.generator.spaces(self.space)

    def propose(self, rows: LongTensor) -> LongTensor:
        """Generate negatives for queries.

        :param rows: shape: (n,) positions of queries in the index

        :returns: shape: (n, num_bands, num_slots) entity ids, -1 where a query has no candidate
        """
        return self.decode(rows, *self.generate_standardised(rows))

    def decode(self, rows: LongTensor, latent: Tensor, spaces: Sequence[EntitySpace]) -> LongTensor:
        """Find entities near generated vectors.

        :param rows: shape: (n,) positions of queries in the index
        :param latent: shape: (n, num_bands, dim) standardised vectors that were generated for them
        :param spaces: the space of each band

        :returns: shape: (n, num_bands, num_slots) entity ids, -1 where a query has no candidate
        """
        return self.decoder(
            latent,
            spaces=spaces,
            index=self.index,
            rows=rows,
            spreads=self.steering.spreads,
            num_slots=self.settings.num_slots,
            random=self.random,
        )

    def _next(self, size: int) -> LongTensor:
        """Take the next queries in turn, each once before any comes again, those of many positives early."""
        if len(self._pending) == 0:
            # a random order in which each next one is drawn by its number of positives (Efraimidis & Spirakis, 2006)
            uses = self.index.num_answers(torch.arange(self.index.num_queries))
            order = (torch.empty(len(uses)).exponential_(generator=self.random) / uses).argsort()
            if self.bank.shared:
                # one query speaks for all that share its row, another one in each round
                rows, position = self.bank.rows(order).sort(stable=True)
                first = torch.ones_like(rows, dtype=torch.bool)
                first[1:] = rows[1:] != rows[:-1]
                order = order[position[first].sort().values]
            self._pending = order
        chosen, self._pending = self._pending[:size], self._pending[size:]
        return chosen

    def refresh(self, budget: Budget, *, use_tqdm: bool = False) -> RefreshReport:
        """Generate anew for a part of the bank, at most for all of it.

        :param budget: the number of queries or of seconds
        :param use_tqdm: whether to show a progress bar

        :returns: what it came to
        """
        done = 0
        empty = 0.0
        total = self.bank.num_rows
        with tqdm(total=total, desc="Generating negatives", unit="query", disable=not use_tqdm, leave=False) as bar:
            while done < total and (size := budget.allow(min(_CHUNK, total - done))):
                queries = self._next(size)
                ids = self.propose(queries)
                self.bank.write(self.bank.rows(queries), ids)
                empty += (ids < 0).float().mean().item() * len(queries)
                done += len(queries)
                budget.spend(len(queries))
                bar.update(len(queries))
        return RefreshReport(queries=done, seconds=budget.elapsed, empty=empty / max(done, 1))

    def steer(self, model: Model, *, num_queries: int = 64) -> list[float]:
        """Measure the hardness of each band under the model, and move it towards its target.

        :param model: the model under training
        :param num_queries: the number of queries of the sample

        :returns: the median rank percentile of each band, NaN for one without candidates
        """
        if self.generator is None:
            raise ValueError("space is not set: call enter(space) before steer().")
        # as often as training sees them
        rows = self.world.sample_positives(num_queries, self.random)[0].rows
        slots = torch.randperm(self.settings.num_slots, generator=self.random)[:8]
        ids = self.propose(rows)[..., slots]
        percentiles = rank_percentiles(
            model=model,
            index=self.index,
            queries=self.index.select(rows),
            candidates=ids.reshape(num_queries, -1),
            random=self.random,
        ).view(ids.shape)
        # the median: a few candidates that miss by far are harmless, and would hide how hard most of them are
        measured = percentiles.transpose(0, 1).flatten(start_dim=1).nanmedian(dim=1).values.tolist()
        self.steering.update(measured, self.generator)
        return measured

    def check(self, *, num_queries: int = 128) -> Diversity:
        """Measure how diverse what is generated is, and trust the generator accordingly from now on.

        :param num_queries: the number of queries of the sample

        :returns: the diversity
        """
        # always the same sample, and nothing else is drawn differently for it
        random = torch.Generator().manual_seed(self.settings.seed)
        rows = torch.randint(self.index.num_queries, size=(num_queries,), generator=random)
        latent, spaces = self.generate_standardised(rows, random)
        diversity = measure_diversity(latent, spaces=spaces, index=self.index, rows=rows, random=random)
        threshold = self.settings.min_distinct
        trust = min(1.0, diversity.distinct / threshold) if threshold > 0 else 1.0
        if trust < 1.0 <= self._least_trust:
            logger.warning(
                "The generator has collapsed: its vectors are near to %.1f %% of the entities that true answers are "
                "near to, less than min_distinct=%s; the share of generated negatives, and the weight of the latent "
                "loss, is lowered while this is so.",
                100 * diversity.distinct,
                threshold,
            )
        self.trust, self._least_trust = trust, min(trust, self._least_trust)
        return diversity

    def count(self, *, wanted: int, fallback: int) -> None:
        """Note what a sampler found in the bank.

        :param wanted: the number of generated ids that it asked for
        :param fallback: the number of those for which the bank had none, so that a uniform one was used
        """
        self._counts += torch.tensor([wanted, fallback])

    def take_counts(self) -> dict[str, float]:
        """Get what samplers found in the bank since the last call.

        :returns: the number of generated ids and the share of fallbacks
        """
        wanted, fallback = self._counts.tolist()
        self._counts.zero_()
        return {"generated": wanted - fallback, "fallback": fallback / max(wanted, 1)}

    def reference_space(self) -> EntitySpace:
        """Get the space of the reference embedding."""
        return reference_space(entities=self.reference.entities, relations=self.reference.relations)

    def prepare(self) -> None:
        """Make whatever is made once and takes long: the reference embedding, types, difficulty, and the bank."""
        _ = self.world, self.bank

    def prepare_alone(self, *, fit_steps: int, use_tqdm: bool = True) -> None:
        """Fill the bank in the space of the reference embedding, without any model.

        :param fit_steps: the number of training steps of the generator
        :param use_tqdm: whether to show a progress bar
        """
        self.enter(self.reference_space())
        report = self.fit(Budget(units=fit_steps))
        self.check()
        self.steering.widen(_ALONE_SPREAD)
        refreshed = self.refresh(Budget(units=self.bank.num_rows), use_tqdm=use_tqdm)
        logger.info(
            "Fitted the generator in %.1f s (%s) and generated for %d queries in %.1f s.",
            report.seconds,
            report.metrics,
            refreshed.queries,
            refreshed.seconds,
        )
