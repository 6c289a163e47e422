"""What a page shows of a training beside its curves: taken from the sampler and the model while they are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pykeen.datasets import Dataset
from pykeen.pipeline import PipelineResult
from pykeen.training import SLCWATrainingLoop
from sklearn.decomposition import PCA
from tqdm.auto import tqdm

from ..inspection import describe, negatives_frame, sampler_of
from ..sampling.base import GeneratedNegativeSampler
from ..space import UnsupportedModelError, live_space
from ..utils.triples import labels_of

__all__ = [
    "closer_look",
]

#: The largest number of points of one kind
_POINTS, _ENTITIES = 150, 600
#: The number of positives whose negatives are on the map
_POSITIVES = 40


def closer_look(result: PipelineResult, dataset: Dataset, *, seed: int = 0) -> dict[str, Any]:
    """Look at what a training has used.

    :param result: the result of the pipeline
    :param dataset: the data set
    :param seed: the seed of what is chosen

    :returns: what a :class:`~pykeen_dans.reporting.records.Record` keeps of it, by the names of its fields; nothing
        for a training without negatives
    """
    if not isinstance(result.training_loop, SLCWATrainingLoop):
        return {}
    parts: dict[str, Callable[[], Any]] = {
        "negatives": lambda: _description(result, dataset, seed),
        "points": lambda: _points(result, dataset, seed),
    }
    sampler = _generated_sampler(result)
    if sampler is not None:
        parts["curriculum"] = lambda: _curriculum(sampler, len(result.losses))
        parts["difficulty"] = lambda: _difficulty(sampler, seed)
    bar = tqdm(parts.items(), desc="Looking at its negatives", unit="part", leave=False)
    return {name: make() for name, make in bar}


def _description(result: PipelineResult, dataset: Dataset, seed: int) -> list[dict[str, Any]]:
    """Tell share, hardness and diversity of its negatives."""
    rows: list[dict[str, Any]] = describe(result, against=dataset, seed=seed).astype(object).to_dict("records")
    for row in rows:
        # a missing integer of pandas
        row["band"] = None if row["band"] is None or row["band"] != row["band"] else int(row["band"])
    return rows


def _generated_sampler(result: PipelineResult) -> GeneratedNegativeSampler | None:
    """Get the sampler where it generates negatives."""
    try:
        sampler = sampler_of(result)
    except ValueError:
        # a loop whose pool is all that there is
        return None
    return sampler if isinstance(sampler, GeneratedNegativeSampler) and sampler.engine.generates else None


def _curriculum(sampler: GeneratedNegativeSampler, num_epochs: int) -> dict[str, Any]:
    """Tell the weight of each band in each epoch."""
    engine, curriculum = sampler.engine, sampler.curriculum
    epochs = list(range(num_epochs + 1))
    weights = [list(engine.state(curriculum, epoch / max(1, num_epochs)).band_weights) for epoch in epochs]
    return {"epochs": epochs, "weights": weights, "targets": list(engine.settings.targets), "sources": engine.sources}


def _difficulty(sampler: GeneratedNegativeSampler, seed: int) -> dict[str, Any] | None:
    """Tell degree and difficulty of some entities, where the generator asks for it."""
    # not all generators have a difficulty
    generator: Any = sampler.engine.generator
    graph = sampler.engine.graph
    if not hasattr(generator, "difficulty"):
        return None
    difficulty = graph.difficulty(generator.difficulty, generator.difficulty_kwargs)
    degree = torch.bincount(graph.mapped_triples[:, [0, 2]].flatten(), minlength=graph.num_entities)
    chosen = torch.randperm(graph.num_entities, generator=torch.Generator().manual_seed(seed))[:_ENTITIES]
    return {"degree": degree[chosen].tolist(), "difficulty": difficulty[chosen].tolist()}


def _points(result: PipelineResult, dataset: Dataset, seed: int) -> dict[str, Any] | None:
    """Put true answers of a relation, uniform entities, and generated negatives of it into two dimensions."""
    try:
        vectors = live_space(result.model).vectors.cpu().numpy()
    except UnsupportedModelError:
        return None
    factory = dataset.training
    random = torch.Generator().manual_seed(seed)
    triples = factory.mapped_triples
    relation = int(triples[:, 1].bincount().argmax())
    triples = triples[triples[:, 1] == relation]
    chosen = triples[torch.randperm(len(triples), generator=random)[:_POSITIVES]]
    true = triples[:, 2].unique()
    others = torch.randperm(factory.num_entities, generator=random)
    kinds = {
        "true": true[torch.randperm(len(true), generator=random)[:_POINTS]].tolist(),
        "uniform": others[~torch.isin(others, true)][:_POINTS].tolist(),
        "generated": _generated_tails(result, chosen, seed),
    }
    shown = np.concatenate([np.array(ids, dtype=int) for ids in kinds.values()])
    place = PCA(n_components=2, random_state=seed).fit(vectors[shown])
    _, relation_to_id = labels_of(factory)
    names = {} if relation_to_id is None else {number: label for label, number in relation_to_id.items()}
    return {
        "relation": names.get(relation, str(relation)),
        "explained": place.explained_variance_ratio_.tolist(),
        "kinds": {kind: place.transform(vectors[ids]).tolist() for kind, ids in kinds.items() if ids},
    }


def _generated_tails(result: PipelineResult, positives: torch.Tensor, seed: int) -> list[int]:
    """List the entities that were generated in the place of tails."""
    frame = negatives_frame(result, positives, per_band=2, seed=seed)
    chosen = frame[(frame["side"] == "tail") & frame["band"].notna()]["negative"].drop_duplicates()[:_POINTS]
    entity_to_id, _ = labels_of(result.training)
    return [int(each) if entity_to_id is None else entity_to_id[each] for each in chosen]
