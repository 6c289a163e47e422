"""The engine behind a sampler: generator, decoder and bank, and the work that is done between epochs.

The sampler only reads the bank. Everything that costs time is here, behind one call, is done in parts, and ends when
its budget ends.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from pykeen.typing import FloatTensor, LongTensor
from torch import Tensor
from tqdm.auto import tqdm

from ..bank import NegativeBank, SpreadDecoder
from ..generators import FitReport, Generator
from ..graph import Graph
from ..space import EntitySpace, reference_space
from ..utils.budget import Budget
from ..utils.logs import warn_once
from ..utils.memory import in_parts
from ..utils.processes import SharedCounts
from ..utils.randomness import single_precision
from .curriculum import Curriculum, CurriculumState
from .diversity import MAX_DEVIATIONS, Diversity, has_diverged, measure_diversity
from .reports import RefreshReport, UpdateReport
from .settings import EngineSettings, UpdateBudget
from .steering import HardnessSteering, median_percentiles
from .turns import QueryTurns

__all__ = [
    "GenerationEngine",
]

if TYPE_CHECKING:
    from pykeen.models import Model

logger = logging.getLogger(__name__)

#: The smallest spread where no model tells how hard candidates are, and the bank is never refreshed
_ALONE_SPREAD = 0.3
#: Progress is shown of what takes longer, in seconds
_PATIENCE = 2.0
#: The number of queries that are generated for at once
_CHUNK = 1024
#: A model that ranks known answers no better than this cannot tell what is hard: everything would seem too easy, and
#: the bands would be driven to where the model, once it has learned, finds them far too hard
_LEARNED = 0.25
#: The sizes of the samples by which hardness and diversity are measured. By 64 queries, the median of the hardest band
#: of UMLS was anything between .03 and .13 from one update to the next, and the bands were moved by chance
_STEERING_QUERIES, _STEERING_SLOTS, _DIVERSITY_QUERIES = 256, 8, 128
#: What samplers read
_READ = ("index", "settings", "bank", "counts", "trust", "generates", "sources", "ordered")


def _progress(title: str, *, total: int | None, unit: str, shown: bool) -> tqdm[NoReturn]:
    """Make a progress bar, which appears where something takes long."""
    return tqdm(total=total, desc=title, unit=unit, disable=not shown, leave=False, delay=_PATIENCE)


class GenerationEngine:
    """Generate negatives for the queries of a graph, and keep them in a bank.

    :param graph: the training triples and what depends on them alone
    :param settings: the options
    :param make_generator: makes a generator for spaces of the given dimension, and the given number of bands
    """

    def __init__(self, *, graph: Graph, settings: EngineSettings, make_generator: Callable[..., Generator]) -> None:
        """Check the options; nothing is made yet that costs time."""
        self.graph = graph
        self.index = graph.index
        self.settings = settings
        self.make_generator = make_generator
        self.random = torch.Generator().manual_seed(settings.seed)
        self.decoder = SpreadDecoder(
            num_slots=settings.num_slots,
            min_candidates=settings.min_candidates,
            masks_known=settings.known_answers == "mask",
        )
        min_spread = min(1.0, settings.min_candidates / graph.num_entities)
        # a generator of one dimension tells what does not depend on it, and whether its options are right
        self._probe = self._make(dim=1, num_bands=len(settings.targets))
        self.generates = self._probe.generates
        self.kind = type(self._probe).__name__
        self.sources, self.ordered = self._probe.sources, self._probe.ordered
        self.steering = HardnessSteering(settings.targets, num_sources=len(self.sources), min_spread=min_spread)
        self.space: EntitySpace | None = None
        self.generator: Generator | None = None
        #: the factor of the share of generated negatives, and of the loss of vectors, below 1 in a collapse
        self.trust = 1.0
        self.least_trust = 1.0
        #: generated ids that samplers asked for, and those of them that stayed uniform
        self.counts = SharedCounts(2)

    def __getstate__(self) -> dict[str, Any]:
        """Send a worker process what it reads, and nothing that generates: no network, no device, no randomness."""
        return {name: value for name, value in self.__dict__.items() if name in _READ}

    @single_precision()
    def _make(self, *, dim: int, num_bands: int) -> Generator:
        """Make a generator, reproducibly, and without a trace in the caller's random state."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            return self.make_generator(dim=dim, num_bands=num_bands)

    @property
    def num_bands(self) -> int:
        """The number of hardness bands."""
        return len(self.settings.targets)

    def state(self, curriculum: Curriculum, progress: float) -> CurriculumState:
        """Ask a curriculum what it wants of bands and sources.

        :param curriculum: the curriculum
        :param progress: the progress of training in [0, 1]

        :returns: the state
        """
        return curriculum(progress, num_bands=self.num_bands, num_sources=len(self.sources), ordered=self.ordered)

    @functools.cached_property
    def bank(self) -> NegativeBank:
        """The bank, in which queries share rows by side, relation and type of the kept entity when memory is short."""
        num_queries, settings = self.index.num_queries, self.settings
        groups = None
        row_size = self.num_bands * len(self.sources) * settings.num_slots
        if num_queries > NegativeBank.max_rows(num_ids=row_size, memory=settings.memory):
            queries = self.index.select(torch.arange(num_queries))
            types = self.graph.types()
            relation = queries.sides * self.graph.num_relations + queries.relations
            groups = relation * types.num_types + types.labels[queries.kept]
        return NegativeBank(
            num_queries=num_queries,
            num_bands=self.num_bands,
            num_sources=len(self.sources),
            num_slots=settings.num_slots,
            memory=settings.memory,
            groups=groups,
        )

    @functools.cached_property
    def turns(self) -> QueryTurns:
        """In which turn queries are generated for."""
        return QueryTurns(self.index, self.bank)

    def enter(self, space: EntitySpace) -> Generator:
        """Generate in this space from now on.

        :param space: the current entity vectors. The generator is kept while their dimension and device are.

        :returns: the generator
        """
        if self.settings.device is not None:
            space = space.to(self.settings.device)
        known = self.space
        if self.generator is None or known is None or (known.dim, known.device) != (space.dim, space.device):
            self.generator = self._make(dim=space.dim, num_bands=self.num_bands).to(space.device)
        self.space = space
        return self.generator

    def update(
        self,
        space: EntitySpace,
        model: Model | None,
        budget: UpdateBudget,
        *,
        steer: bool = True,
        use_tqdm: bool = False,
    ) -> UpdateReport:
        """Train the generator, hold the hardness of the bands, and refresh a part of the bank.

        :param space: the current entity vectors
        :param model: the model under training, by which hardness is measured, None to leave it as it is
        :param budget: how much all of it may cost
        :param steer: whether to move the bands, or only to measure how hard they are
        :param use_tqdm: whether to show progress bars

        :returns: what it came to
        """
        clock = Budget(seconds=budget.seconds)
        # validation losses are computed in inference mode, in which nothing can be trained
        with torch.inference_mode(False), torch.enable_grad():
            self.enter(space)
            fit = self.fit(
                Budget(
                    units=budget.fit_steps,
                    seconds=None
                    if budget.fit_steps is not None or budget.seconds is None
                    else budget.seconds * budget.fit_share,
                    least=budget.least_fit_steps,
                ),
                use_tqdm=use_tqdm,
            )
        diversity = self.check()
        if self.trust == 0:
            # what it makes is of no use; samplers draw uniformly until it has recovered
            return self._report(fit, diversity, RefreshReport())
        if model is not None:
            self.steer(model, move=steer)
        left = None
        if budget.refresh_queries is None and budget.seconds is not None:
            left = budget.seconds - clock.elapsed
        # however short the time is, something is refreshed; the epochs after it pay it back
        refresh = self.refresh(Budget(units=budget.refresh_queries, seconds=left, least=1), use_tqdm=use_tqdm)
        return self._report(fit, diversity, refresh)

    def _report(self, fit: FitReport, diversity: Diversity, refresh: RefreshReport) -> UpdateReport:
        parts = fit, diversity, refresh
        return UpdateReport.create(*parts, bank=self.bank, steering=self.steering, sources=self.sources)

    @single_precision()
    def fit(self, budget: Budget, *, use_tqdm: bool = False) -> FitReport:
        """Train the generator.

        :param budget: the number of steps or of seconds
        :param use_tqdm: whether to show a progress bar

        :returns: what it came to
        """
        generator, space = self._entered()
        bar = _progress("Training the generator", total=budget.units, unit="step", shown=use_tqdm)
        with bar, torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, size=(), generator=self.random)))
            budget.watch = bar.update
            return generator.fit(space=space, graph=self.graph, budget=budget, random=self.random)

    def _entered(self) -> tuple[Generator, EntitySpace]:
        if self.generator is None or self.space is None:
            raise ValueError("space is not set: call enter(space), or update(space, ...), before this.")
        return self.generator, self.space

    def generate(self, rows: LongTensor) -> Tensor:
        """Generate vectors for queries, without decoding them.

        :param rows: shape: (n,) positions of queries in the index

        :returns: shape: (n, num_bands, num_sources, ...) vectors in the model's own space
        """
        generator, space = self._entered()
        vectors = self._vectors(rows, self.random).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        return torch.stack(
            [own.restore(vectors[:, :, source]) for source, own in enumerate(generator.spaces(space))], dim=2
        )

    @single_precision()
    def _vectors(self, rows: LongTensor, random: torch.Generator) -> FloatTensor:
        """Generate vectors for queries, as the decoder takes them."""
        generator, space = self._entered()
        return generator.generate(space=space, graph=self.graph, queries=self.index.select(rows), random=random)

    def propose(self, rows: LongTensor) -> LongTensor:
        """Generate negatives for queries.

        :param rows: shape: (n,) positions of queries in the index

        :returns: shape: (n, num_bands, num_sources, num_slots) entity ids, -1 where a query has no candidate
        """
        generator, space = self._entered()
        return self.decoder(
            self._vectors(rows, self.random),
            spaces=generator.spaces(space),
            index=self.index,
            rows=rows,
            spreads=self.steering.spreads,
            random=self.random,
        )

    def refresh(self, budget: Budget, *, use_tqdm: bool = False) -> RefreshReport:
        """Generate anew for a part of the bank, at most for all of it.

        :param budget: the number of queries or of seconds
        :param use_tqdm: whether to show a progress bar

        :returns: what it came to
        """
        done = 0
        empty = 0.0
        total = self.bank.num_rows
        with _progress("Generating negatives", total=total, unit="query", shown=use_tqdm) as bar:
            while done < total and (size := budget.allow(min(_CHUNK, total - done))):
                queries = self.turns.next(size, self.random)
                ids = in_parts(self.propose, queries)
                self.bank.write(self.bank.rows(queries), ids)
                empty += (ids < 0).float().mean().item() * len(queries)
                done += len(queries)
                budget.spend(len(queries))
                bar.update(len(queries))
        self.steering.renew(done, total=total)
        return RefreshReport(queries=done, seconds=budget.elapsed, empty=empty / max(done, 1))

    def steer(self, model: Model, *, move: bool = True) -> None:
        """Measure how hard bands are under the model, and move them towards their targets, if they are to move."""
        generator, _ = self._entered()
        queries, answers = self.graph.sample_positives(_STEERING_QUERIES, self.random)
        slots = torch.randperm(self.settings.num_slots, generator=self.random)[:_STEERING_SLOTS]
        ids = self.propose(queries.rows)[..., slots]
        in_bank = self.bank.ids[self.bank.rows(queries.rows)][..., slots].long()
        measured, banked, ((of_answers,),) = self.percentiles(
            model, queries.rows, ids, in_bank, answers[:, None, None, None]
        )
        if (has_learned := of_answers < _LEARNED) and move:
            self.steering.update(measured, generator, banked=banked)
        else:
            self.steering.note(measured, banked, has_learned=has_learned)

    def percentiles(self, model: Model, rows: LongTensor, *ids: LongTensor) -> list[list[list[float]]]:
        """Measure the hardness of several ids, see :func:`~pykeen_dans.engine.steering.median_percentiles`."""
        return median_percentiles(
            model=model, index=self.index, queries=self.index.select(rows), ids=ids, random=self.random
        )

    def check(self) -> Diversity:
        """Measure how diverse what is generated is, and trust the generator accordingly from now on.

        :returns: the diversity. A generator that has diverged is made anew, and has none.
        """
        generator, space = self._entered()
        # always the same sample, and nothing else is drawn differently for it
        random = torch.Generator().manual_seed(self.settings.seed)
        rows = torch.randint(self.index.num_queries, size=(_DIVERSITY_QUERIES,), generator=random)
        vectors = self._vectors(rows, random)
        if has_diverged(generator, vectors):
            return self._begin_anew()
        diversity = measure_diversity(
            vectors, spaces=generator.spaces(space), index=self.index, rows=rows, random=random
        )
        threshold = self.settings.min_distinct
        trust = min(1.0, diversity.distinct / threshold) if threshold > 0 else 1.0
        if trust < 1.0 <= self.least_trust:
            logger.warning(
                "The generator has collapsed: its vectors are near to %.1f %% of the entities that true answers are "
                "near to, less than min_distinct=%s; the share of generated negatives, and the weight of the loss of "
                "vectors, is lowered while this is so.",
                100 * diversity.distinct,
                threshold,
            )
        self.trust, self.least_trust = trust, min(trust, self.least_trust)
        return diversity

    def _begin_anew(self) -> Diversity:
        """Replace a generator that has diverged, and do not trust the new one before it has been trained."""
        warn_once(
            logger,
            "The generator has diverged, and is made anew; negatives are uniform until the next update. If this stays "
            "so, lower its learning rate by generator_kwargs.",
        )
        _, space = self._entered()
        self.generator = self._make(dim=space.dim, num_bands=self.num_bands).to(space.device)
        self.trust = 0.0
        return Diversity.none()

    def count(self, *, wanted: int, fallback: int | Tensor) -> None:
        """Note what a sampler found in the bank.

        :param wanted: the number of generated ids that it asked for
        :param fallback: the number of those for which the bank had none, so that a uniform one was used
        """
        self.counts.add(wanted, fallback)

    def take_counts(self) -> dict[str, float]:
        """Get what samplers found in the bank since the last call.

        :returns: the number of generated ids and the share of fallbacks
        """
        wanted, fallback = self.counts.totals()
        self.counts.reset(0, 0)
        return {"generated": wanted - fallback, "fallback": fallback / max(wanted, 1)}

    def reference_space(self) -> EntitySpace:
        """Get the space of the reference embedding."""
        reference = self.graph.reference
        return reference_space(entities=reference.entities, relations=reference.relations)

    def prepare(self) -> None:
        """Make whatever is made once and takes long: what the generator reads of the graph, and the bank."""
        if self.generates:
            self._probe.prepare(self.graph)
            _ = self.bank

    def prepare_alone(self, *, fit_steps: int, use_tqdm: bool = True) -> None:
        """Fill the bank in the space of the reference embedding, without any model.

        :param fit_steps: the number of training steps of the generator
        :param use_tqdm: whether to show progress bars
        """
        if not self.generates:
            return
        self.steering.widen(_ALONE_SPREAD)
        report = self.update(self.reference_space(), None, UpdateBudget(fit_steps=fit_steps), use_tqdm=use_tqdm)
        logger.info(
            "Fitted the generator in %.1f s and generated for %d queries in %.1f s.",
            report.fit.seconds,
            report.refresh.queries,
            report.refresh.seconds,
        )
