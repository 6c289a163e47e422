"""Scale: the cost of an epoch, and memory, against the number of triples.

Each size is a synthetic graph (:mod:`suite.graphs`), and one is real where it is at hand, the quarter of YAGO3-10. The
samplers take turns, each in a process of its own. Batches grow with the graph, since PyKEEN's optimisers touch every
entity in every batch: the number of batches of an epoch is the same at all sizes.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import pathlib
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pykeen.models import ComplEx
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory
from pykeen.utils import resolve_device, set_random_seed
from scipy import stats
from torch.optim import Adagrad

from pykeen_dans.training.callback import CurriculumTrainingCallback

from . import data
from .graphs import synthetic_graph
from .interleave import Task, Turns, interleave
from .rows import append, environment, load
from .training import EpochClock, empty_cache, quiet
from .variants import VARIANTS, available

__all__ = [
    "SAMPLERS",
    "Law",
    "check_bank",
    "execute",
    "fit_law",
]

logger = logging.getLogger(__name__)

FILE = "scale.jsonl"
SAMPLERS = ("basic", "live", "dans", "dhns")
#: A real graph for comparison
YAGO = "yago310quarter"
_NUM_BATCHES = 256
_LEAST_BATCH = 256
_NUM_NEGATIVES = 8
_DIM = 32
_EPOCHS = 3
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Law:
    """A power law: value = factor * size ** exponent.

    :param factor: the factor
    :param exponent: the exponent
    :param error: the standard error of the exponent
    :param num_sizes: the number of sizes that it was fitted to
    """

    factor: float
    exponent: float
    error: float
    num_sizes: int

    def __call__(self, size: float) -> float:
        """Extrapolate.

        :param size: the size

        :returns: the value
        """
        return self.factor * size**self.exponent


def fit_law(sizes: Sequence[float], values: Sequence[float]) -> Law:
    """Fit a power law, by least squares of logarithms.

    :param sizes: at least three sizes
    :param values: the value of each

    :returns: the law

    :raises ValueError: if there are fewer than three sizes
    """
    if len(set(sizes)) < 3:
        raise ValueError(f"sizes={list(sizes)} are too few for a law with an error; measure at least three.")
    found = stats.linregress(np.log(sizes), np.log(values))
    return Law(
        factor=math.exp(found.intercept),
        exponent=float(found.slope),
        error=float(found.stderr),
        num_sizes=len(set(sizes)),
    )


def check_bank(*, bank_mib: float, memory: float) -> None:
    """Check that a bank is within its option ``memory``.

    :param bank_mib: the size of its ids
    :param memory: the option

    :raises AssertionError: if it is not
    """
    if bank_mib > memory:
        raise AssertionError(f"The bank has {bank_mib:.1f} MiB, more than memory={memory} MiB allows.")


def _factory(graph: int | str) -> CoreTriplesFactory:
    """Make the training triples of a size, or of a name."""
    if isinstance(graph, str):
        return data.load(graph, create_inverse_triples=False).training
    triples, num_entities, num_relations = synthetic_graph(graph)
    return data.training_factory(triples, num_entities=num_entities, num_relations=num_relations)


def _train(turns: Turns, *, graph: int | str, variant: str, threads: int) -> dict[str, Any]:
    """Train in a process of its own, with an empty cache, so that whatever is made once is on the clock."""
    started = time.perf_counter()
    torch.set_num_threads(threads)
    quiet()
    options = VARIANTS[variant]
    factory = _factory(graph)
    clock = EpochClock(turns)
    curriculum = CurriculumTrainingCallback(**options.callback_kwargs) if options.callback else None
    with empty_cache():
        # not a pipeline, which would evaluate
        set_random_seed(_SEED)
        model = ComplEx(triples_factory=factory, embedding_dim=_DIM, loss="nssa", random_seed=_SEED)
        model = model.to(resolve_device())
        loop = SLCWATrainingLoop(
            model=model,
            triples_factory=factory,
            optimizer=Adagrad(model.get_grad_params(), lr=0.1),
            negative_sampler=options.sampler,
            negative_sampler_kwargs={"num_negs_per_pos": _NUM_NEGATIVES, **options.sampler_kwargs},
        )
        loop.train(
            factory,
            num_epochs=_EPOCHS,
            batch_size=max(_LEAST_BATCH, math.ceil(factory.num_triples / _NUM_BATCHES)),
            callbacks=[callback for callback in (curriculum, clock) if callback is not None],
            use_tqdm=False,
        )
    row = {
        "seed": _SEED,
        "num_triples": factory.num_triples,
        "num_entities": factory.num_entities,
        "num_negatives": _NUM_NEGATIVES,
        "epoch_seconds": statistics.median(clock.epoch_seconds),
        "setup_seconds": clock.setup_seconds,
        "peak_memory_mib": clock.peak_memory_mib,
        "ns_per_negative": statistics.median(clock.epoch_seconds) / factory.num_triples / _NUM_NEGATIVES * 1e9,
        "wall_seconds": time.perf_counter() - started,
        **environment(model.device),
    }
    if curriculum is not None:
        engine = curriculum.coupling.engine
        assert engine is not None
        row.update(
            num_queries=engine.index.num_queries,
            bank_rows=engine.bank.num_rows,
            bank_mib=engine.bank.ids.nbytes / 2**20,
            memory_mib=engine.settings.memory,
        )
        check_bank(bank_mib=row["bank_mib"], memory=row["memory_mib"])
    return row


def is_done(graph: int | str, variants: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether a graph was measured with all of the variants.

    :param graph: its number of triples, or its name
    :param variants: the variants
    :param rows: the rows that there are

    :returns: whether all of them are there
    """
    return set(variants) <= {row["variant"] for row in rows if row["graph"] == graph}


def execute(folder: pathlib.Path, *, graphs: Iterable[int | str], variants: Sequence[str] = SAMPLERS) -> int:
    """Measure what is not there yet.

    :param folder: the folder of the result files
    :param graphs: numbers of triples, and names of data sets
    :param variants: the variants

    :returns: the number of new rows
    """
    path = folder / FILE
    names = available(variants)
    count = 0
    for graph in graphs:
        if is_done(graph, names, load(path)):
            continue
        if graph == YAGO and data.local_folder(YAGO) is None:
            logger.warning("%s is left out: it is not in the folder that PYKEEN_DANS_DATA names.", graph)
            continue
        tasks = {
            name: Task(_train, {"graph": graph, "variant": name, "threads": torch.get_num_threads()}) for name in names
        }
        results = interleave(tasks)
        for name, row in results.items():
            ratios = {
                f"{key}_ratio": row[key] / results["basic"][key]
                for key in ("epoch_seconds", "peak_memory_mib")
                if name != "basic"
            }
            append(path, {"graph": graph, "variant": name, **row, **ratios})
            count += 1
        logger.info(
            "%s: %s",
            graph,
            ", ".join(f"{name} {row['epoch_seconds']:.2f} s an epoch" for name, row in results.items()),
        )
    return count
