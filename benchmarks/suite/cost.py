"""What generated negatives cost, as ratios to the basic sampler in the same process, or in the same run.

- *hot path*: processor time of ``corrupt_batch`` for each negative, over batch sizes and numbers of negatives
- *refresh*: the stages of filling the bank, against the time in which basic draws as many ids
- *epochs*: whole epochs and peak memory, each sampler in a process of its own, taking turns
"""

from __future__ import annotations

import functools
import logging
import pathlib
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from pykeen.pipeline import pipeline
from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.typing import LongTensor, MappedTriples
from pykeen.utils import set_random_seed

from pykeen_dans.engine.coupling import Coupling
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.generators.base import Budget
from pykeen_dans.sampling.base import GeneratedNegativeSampler

from . import data
from .configurations import Setting, configuration_to_run
from .interleave import Task, Turns, interleave
from .quality import callbacks_of
from .rows import append, environment
from .training import EpochClock, quiet
from .variants import VARIANTS, available

__all__ = [
    "epochs",
    "execute",
    "hot_path",
    "keep",
    "refresh_stages",
]

logger = logging.getLogger(__name__)

FILE = "cost.jsonl"
#: What is timed without a training: one variant of each sampler, with the options of its defaults
_SAMPLERS = ("basic", "bernoulli", "pseudotyped", "live", "dans", "dhns")
_QUERIES = 1024
_FIT_STEPS = 20
_SEED = 0


def _make_sampler(name: str, triples: MappedTriples, num_entities: int, num_relations: int, number: int) -> Any:
    """Make a sampler as a training would, with a full bank of random ids where it has one."""
    cls = negative_sampler_resolver.lookup(VARIANTS[name].sampler)
    kwargs: dict[str, Any] = {}
    if issubclass(cls, GeneratedNegativeSampler):
        # the default share at the beginning of a training, which is its largest
        kwargs["coupling"] = Coupling()
    sampler = cls(
        mapped_triples=triples,
        num_entities=num_entities,
        num_relations=num_relations,
        num_negs_per_pos=number,
        **kwargs,
    )
    if isinstance(sampler, GeneratedNegativeSampler):
        bank = sampler.engine.bank
        bank.ids.copy_(torch.randint(num_entities, bank.ids.shape, dtype=bank.ids.dtype))
    return sampler


def nanoseconds(sampler: NegativeSampler, batch: MappedTriples, *, repeats: int) -> float:
    """Time one call, in processor time, which leaves out whatever else the machine does.

    :param sampler: the sampler
    :param batch: shape: (n, 3) positives
    :param repeats: the number of calls

    :returns: nanoseconds for each negative
    """
    started = time.process_time()
    for _ in range(repeats):
        sampler.corrupt_batch(batch)
    return (time.process_time() - started) / repeats / len(batch) / sampler.num_negs_per_pos * 1e9


def _row(what: str, setting: str, sampler: str, ours: float, basic: float, **further: Any) -> dict[str, Any]:
    return {
        "what": what,
        "setting": setting,
        "sampler": sampler,
        "basic": basic,
        "ours": ours,
        "ratio": ours / basic,
        **further,
    }


def hot_path(
    dataset: str, *, batch_sizes: Sequence[int], numbers: Sequence[int], rounds: int = 30
) -> Iterator[dict[str, Any]]:
    """Compare the hot paths, in turn and by the best round of each, so that other work on the machine hits neither.

    :param dataset: the data set
    :param batch_sizes: the batch sizes
    :param numbers: the numbers of negatives for each positive
    :param rounds: how often each is timed

    :yields: a row for each sampler but basic, and each pair of sizes
    """
    set_random_seed(_SEED)
    triples, num_entities, num_relations = data.training_triples(dataset)
    for number in numbers:
        samplers = {
            name: _make_sampler(name, triples, num_entities, num_relations, number) for name in available(_SAMPLERS)
        }
        for size in batch_sizes:
            best = dict.fromkeys(samplers, float("inf"))
            for _ in range(rounds):
                batch = triples[torch.randperm(len(triples))[:size]]
                for name, sampler in samplers.items():
                    sampler.corrupt_batch(batch)
                    best[name] = min(best[name], nanoseconds(sampler, batch, repeats=10))
            for name, figure in best.items():
                if name != "basic":
                    setting = f"{dataset}, B={size}, N={number}"
                    yield _row("hot path, ns per negative", setting, name, figure, best["basic"])


def _milliseconds(work: Callable[[], Any], rounds: int) -> float:
    """Time work by the median of some rounds."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return 1e3 * statistics.median(seconds)


def refresh_stages(dataset: str, *, rounds: int = 5) -> Iterator[dict[str, Any]]:
    """Time the stages of a refresh, in the space of the reference embedding.

    :param dataset: the data set
    :param rounds: how often each is timed

    :yields: a row for each generated sampler and each stage: for 1024 queries, or for one step of training the
        generator. The ratio is to the time in which basic draws as many ids as are generated for these queries.
    """
    set_random_seed(_SEED)
    triples, num_entities, num_relations = data.training_triples(dataset)
    basic = _make_sampler("basic", triples, num_entities, num_relations, 1)
    for name in available(_SAMPLERS):
        sampler = _make_sampler(name, triples, num_entities, num_relations, 1)
        if not isinstance(sampler, GeneratedNegativeSampler):
            continue
        engine = sampler.engine
        engine.enter(engine.reference_space())
        rows = torch.randperm(engine.index.num_queries)[:_QUERIES]
        basic.num_negs_per_pos = engine.bank.row_size
        reference = _milliseconds(functools.partial(basic.corrupt_batch, triples[: len(rows)]), rounds)
        setting = f"{dataset}, {len(rows)} queries, {engine.bank.row_size} ids each"
        for stage, figure in _stages(engine, rows, rounds).items():
            yield _row(f"refresh, ms: {stage}", setting, name, figure, reference)


def _stages(engine: GenerationEngine, rows: LongTensor, rounds: int) -> dict[str, float]:
    """Time the stages of a refresh, in milliseconds."""

    def fit() -> None:
        engine.fit(Budget(units=_FIT_STEPS))

    generated = engine.generate_standardised(rows)
    ids = engine.decode(rows, *generated)
    return {
        "fit, one step": _milliseconds(fit, rounds) / _FIT_STEPS,
        "generate": _milliseconds(lambda: engine.generate_standardised(rows), rounds),
        "decode": _milliseconds(lambda: engine.decode(rows, *generated), rounds),
        "store": _milliseconds(lambda: engine.bank.write(engine.bank.rows(rows), ids), rounds),
    }


def _train(turns: Turns, *, setting: Setting, threads: int) -> dict[str, Any]:
    """Train in a process of its own, for the sake of its peak memory; nothing worth the time is evaluated."""
    torch.set_num_threads(threads)
    quiet()
    experiment = configuration_to_run(setting)
    callbacks = callbacks_of(setting, experiment)
    options = experiment["pipeline"]
    dataset = data.load(options.pop("dataset"), **options.pop("dataset_kwargs"))
    assert dataset.validation is not None
    clock = EpochClock(turns)
    options["training_kwargs"].update(callbacks=[*callbacks, clock], use_tqdm=False)
    # a few triples, since the pipeline insists on an evaluation
    few = dataset.validation.mapped_triples[:8]
    validation = dataset.validation.clone_and_exchange_triples(mapped_triples=few)
    result = pipeline(
        training=dataset.training,
        validation=validation,
        testing=validation,
        **options,
        evaluation_kwargs={"use_tqdm": False, "batch_size": 8},
        use_testing_data=False,
    )
    return {
        "epoch": statistics.median(clock.epoch_seconds),
        "setup": clock.setup_seconds,
        "memory": clock.peak_memory_mib,
        "environment": environment(result.model.device),
    }


def epochs(
    recipe: str, variants: Iterable[str], *, num_epochs: int, number: int, dim: int | None = None, seed: int = 1
) -> Iterator[Any]:
    """Compare whole epochs, refits and refreshes included, and peak memory.

    :param recipe: the recipe
    :param variants: the variants, to which basic is added
    :param num_epochs: the number of epochs, of which the median counts
    :param number: the number of negatives for each positive
    :param dim: the embedding dimension, default: the recipe's
    :param seed: the random seed

    :yields: a row for each variant and measure
    """
    # whether it is there, before any process is told to load it
    data.load(recipe.partition("-")[0])
    names = available(dict.fromkeys(["basic", *variants]))
    threads = torch.get_num_threads()
    results = interleave(
        {
            name: Task(
                _train,
                {
                    "setting": Setting(recipe, name, seed, num_negatives=number, epochs=num_epochs, dim=dim),
                    "threads": threads,
                },
            )
            for name in names
        }
    )
    for key, what in (("epoch", "epoch, s"), ("memory", "peak memory, MiB"), ("setup", "before the first batch, s")):
        for name in names[1:]:
            size = "" if dim is None else f"{dim} dimensions, "
            setting = f"{recipe}, {size}N={number}, {num_epochs} epochs"
            further = {"seed": seed, **results[name]["environment"]}
            yield _row(what, setting, name, results[name][key], results["basic"][key], **further)


def execute(
    folder: pathlib.Path,
    *,
    dataset: str,
    batch_sizes: Sequence[int],
    numbers: Sequence[int],
    rounds: int,
    trainings: Mapping[str, int],
    number: int,
    variants: Sequence[str],
) -> int:
    """Measure, and append to the result file. Costs are always measured anew; tables show the latest.

    :param folder: the folder of the result files
    :param dataset: the data set for hot path and refresh
    :param batch_sizes: the batch sizes of the hot path
    :param numbers: the numbers of negatives of the hot path
    :param rounds: how often the hot path is timed
    :param trainings: the recipes of which whole epochs are timed, with the number of epochs of each
    :param number: the number of negatives of these
    :param variants: the variants of these

    :returns: the number of new rows
    """
    parts = {
        f"{dataset}, hot path": hot_path(dataset, batch_sizes=batch_sizes, numbers=numbers, rounds=rounds),
        f"{dataset}, refresh": refresh_stages(dataset),
        **{recipe: epochs(recipe, variants, num_epochs=count, number=number) for recipe, count in trainings.items()},
    }
    total = 0
    for name, rows in parts.items():
        try:
            total += keep(folder, rows)
        except data.DataMissingError as error:
            logger.warning("The costs of %s are left out: %s", name, error)
    return total


def keep(folder: pathlib.Path, rows: Iterable[dict[str, Any]]) -> int:
    """Append each row to the result file as soon as it is there.

    :param folder: the folder of the result files
    :param rows: the rows

    :returns: their number
    """
    count = 0
    started = time.perf_counter()
    for row in rows:
        now = time.perf_counter()
        append(folder / FILE, {**environment("cpu"), "seed": _SEED, "wall_seconds": now - started, **row})
        started = now
        count += 1
    return count
