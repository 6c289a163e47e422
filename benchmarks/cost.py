"""What generated negatives cost: the hot path, whole epochs, and memory, as ratios to the basic sampler.

python benchmarks/cost.py --dataset FB15k237
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import pathlib
import resource
import time
from typing import Any

import click
import torch
from pykeen.datasets import get_dataset
from pykeen.pipeline import pipeline
from pykeen.sampling import BasicNegativeSampler
from pykeen.typing import MappedTriples

from pykeen_dans.callbacks import CurriculumTrainingCallback
from pykeen_dans.coupling import Coupling
from pykeen_dans.sampling import DiffusionAdaptiveNegativeSampler

ROWS = pathlib.Path(__file__).parent.resolve().joinpath("results", "cost.jsonl")


def nanoseconds(sampler: Any, batch: MappedTriples, *, repeats: int) -> float:
    """Time one call, per negative, in processor time, which leaves out whatever else the machine does."""
    started = time.process_time()
    for _ in range(repeats):
        sampler.corrupt_batch(batch)
    return (time.process_time() - started) / repeats / len(batch) / sampler.num_negs_per_pos * 1e9


def hot_path(dataset: str, *, batch_size: int, num_negatives: int, rounds: int = 30) -> dict[str, Any]:
    """Compare the hot paths, in turn and by the best round of each, so that other work on the machine hits neither."""
    training = get_dataset(dataset=dataset).training
    common: dict[str, Any] = {
        "mapped_triples": training.mapped_triples,
        "num_entities": training.num_entities,
        "num_relations": training.num_relations,
        "num_negs_per_pos": num_negatives,
    }
    basic = BasicNegativeSampler(**common)
    # the default share at the beginning of a training, which is its largest
    ours = DiffusionAdaptiveNegativeSampler(**common, coupling=Coupling())
    bank = ours.engine.bank
    bank.ids.copy_(torch.randint(training.num_entities, bank.ids.shape))
    best = {"basic": float("inf"), "ours": float("inf")}
    for _ in range(rounds):
        batch = training.mapped_triples[torch.randperm(training.num_triples)[:batch_size]]
        for name, sampler in (("basic", basic), ("ours", ours)):
            sampler.corrupt_batch(batch)
            best[name] = min(best[name], nanoseconds(sampler, batch, repeats=10))
    return {"what": "hot path, ns per negative", "setting": f"{dataset}, B={batch_size}, N={num_negatives}", **best}


def _train(dataset: str, sampler: str, epochs: int, connection: Any) -> None:
    """Train in a process of its own, for the sake of its peak memory."""
    torch.set_num_threads(1)
    logging.getLogger("pykeen").setLevel(logging.ERROR)
    callback = CurriculumTrainingCallback(num_epochs=8) if sampler == "dans_kgc" else None
    result = pipeline(
        dataset=dataset,
        model="RotatE",
        model_kwargs={"embedding_dim": 128},
        loss="nssa",
        negative_sampler=sampler,
        negative_sampler_kwargs={"num_negs_per_pos": 32},
        training_kwargs={"num_epochs": epochs, "batch_size": 512, "callbacks": callback, "use_tqdm": False},
        evaluator_kwargs={"filtered": False},
        evaluation_kwargs={"use_tqdm": False, "additional_filter_triples": None},
        random_seed=0,
        stopper="nop",
        use_testing_data=False,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    connection.send((result.train_seconds / epochs, peak))


def whole_epochs(dataset: str, *, epochs: int) -> list[dict[str, Any]]:
    """Compare whole trainings at default options: RotatE, d=128, N=32, refits and refreshes included."""
    figures = {}
    context = multiprocessing.get_context("spawn")
    for name, sampler in (("basic", "basic"), ("ours", "dans_kgc")):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_train, args=(dataset, sampler, epochs, sender))
        process.start()
        figures[name] = receiver.recv()
        process.join()
    setting = f"{dataset}, RotatE, d=128, N=32, B=512, {epochs} epochs"
    return [
        {"what": what, "setting": setting, "basic": figures["basic"][column], "ours": figures["ours"][column]}
        for column, what in enumerate(("epoch, s", "peak memory, MiB"))
    ]


@click.command()
@click.option("--dataset", default="FB15k237", show_default=True)
@click.option("--epochs", type=int, default=0, show_default=True, help="Whole epochs to time; 0 leaves them out.")
def main(dataset: str, epochs: int) -> None:
    """Measure, and append to the result file."""
    torch.set_num_threads(1)
    rows = [hot_path(dataset, batch_size=512, num_negatives=number) for number in (8, 32)]
    if epochs:
        rows += whole_epochs(dataset, epochs=epochs)
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    with ROWS.open("a") as file:
        for row in rows:
            row["ratio"] = row["ours"] / row["basic"]
            file.write(json.dumps(row) + "\n")
            click.echo(row)


if __name__ == "__main__":
    main()
