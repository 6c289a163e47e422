"""What the generator of ``dhns`` has learned: the error of the predicted noise, at each semantic level.

The mean absolute error of who predicts no noise at all is the square root of 2 / pi, .798. Each row has the error of
the trained generator, that of its closed-form part alone (the Gaussian prior, which is no network), and the mean
distance to true answers of what it generates, from easy to hard. The structural vectors are those of the reference
embedding, or of a RotatE model that was trained for a few epochs with uniform negatives.
"""

from __future__ import annotations

import math
import pathlib
import time
from typing import Any

import torch
from pykeen.datasets import get_dataset
from pykeen.losses import NSSALoss
from pykeen.models import RotatE
from pykeen.training import SLCWATrainingLoop

from pykeen_dans.generators.base import Budget, World
from pykeen_dans.graph import QueryIndex
from pykeen_dans.graph.reference import reference_embedding
from pykeen_dans.graph.types import EntityTypes
from pykeen_dans.multimodal import load_modalities
from pykeen_dans.multimodal.generator import HierarchicalGenerator
from pykeen_dans.sampling.dhns import make_levels
from pykeen_dans.space.entity_space import EntitySpace, live_space, reference_space

from ..rows import append, environment
from .quality import text_table

__all__ = [
    "execute",
]

FILE = "multimodal-generator.jsonl"


def trained_space(training: Any, *, dim: int, epochs: int) -> EntitySpace:
    """Train RotatE with uniform negatives, and take its vectors."""
    model = RotatE(triples_factory=training, embedding_dim=dim, loss=NSSALoss(margin=9.0), random_seed=0)
    loop = SLCWATrainingLoop(
        model=model,
        triples_factory=training,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.02),
        negative_sampler_kwargs={"num_negs_per_pos": 8},
    )
    loop.train(triples_factory=training, num_epochs=epochs, batch_size=512, use_tqdm=False)
    return live_space(model)


def errors(generator: HierarchicalGenerator, *, space: EntitySpace, world: World) -> dict[str, float]:
    """Measure the mean absolute error of the predicted noise on fresh batches, without training."""
    found = {}
    for index, (level, own) in enumerate(zip(generator.levels, generator.level_spaces(space), strict=True)):
        chain = generator._chain(index).eval()
        random = torch.Generator().manual_seed(1)
        centroids = world.types.centroids(own.vectors)
        values = []
        for _ in range(20):
            computed = chain.training_loss(space=own, world=world, centroids=centroids, random=random)
            assert computed is not None
            values.append(computed[1].item())
        found[level.name] = sum(values) / len(values)
    return found


def distances(generator: HierarchicalGenerator, *, space: EntitySpace, world: World) -> dict[str, list[float]]:
    """Measure the mean distance to a true answer, in standard deviations of a dimension, easy first."""
    random = torch.Generator().manual_seed(2)
    queries, answers = world.sample_positives(2000, random)
    latent = generator.generate(space=space, world=world, queries=queries, random=random)
    found: dict[str, list[float]] = {level.name: [] for level in generator.levels}
    for band, own in enumerate(generator.spaces(space)):
        level = generator.levels[band % len(generator.levels)]
        covered = torch.ones(len(answers), dtype=torch.bool)
        if own.members is not None:
            covered = torch.isin(answers, own.members)
        gap = latent[covered, band] - own.vectors[answers[covered]]
        found[level.name].append(gap.pow(2).mean(dim=-1).sqrt().mean().item())
    return found


def _world(training: Any) -> tuple[World, EntitySpace]:
    """Describe a graph for the generator, and get its reference embedding."""
    sizes = {"num_entities": training.num_entities, "num_relations": training.num_relations}
    reference = reference_embedding(mapped_triples=training.mapped_triples, **sizes, use_tqdm=False)
    world = World(
        index=QueryIndex(mapped_triples=training.mapped_triples, **sizes),
        types=EntityTypes.cluster(reference.entities),
        difficulty=torch.full((training.num_entities,), 0.5),
    )
    return world, reference_space(entities=reference.entities, relations=reference.relations)


def execute(
    folder: pathlib.Path,
    *,
    dataset: str,
    texts: pathlib.Path | None,
    preset: str = "working",
    steps: int = 1000,
    dim: int = 64,
    epochs: int = 5,
) -> dict[str, Any]:
    """Train a generator, and append a row.

    :param folder: the folder of the result files
    :param dataset: the data set, as in the names of recipes
    :param texts: the folder of the tables of texts; without, there is the structural level alone
    :param preset: the preset of the generator
    :param steps: the number of its training steps
    :param dim: the dimension of RotatE
    :param epochs: the epochs of RotatE, 0 for the reference embedding

    :returns: the row
    """
    training: Any = get_dataset(dataset=dataset).training
    world, space = _world(training)
    if epochs:
        space = trained_space(training, dim=dim, epochs=epochs)
    modalities = load_modalities(
        None if texts is None else text_table(texts, dataset),
        num_entities=training.num_entities,
        entity_to_id=training.entity_to_id,
    )
    torch.manual_seed(0)
    generator = HierarchicalGenerator(
        dim=space.dim,
        num_relations=training.num_relations,
        levels=make_levels(modalities, None),
        preset=preset,
        loss="l1",
    )
    random = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    generator.fit(space=space, world=world, budget=Budget(units=0), random=random)
    prior = errors(generator, space=space, world=world)
    generator.fit(space=space, world=world, budget=Budget(units=steps), random=random)
    row = {
        "dataset": dataset,
        "preset": preset,
        "space": f"RotatE, d={dim}, {epochs} epochs" if epochs else "reference embedding",
        "dim": space.dim,
        "steps": steps,
        "seconds": time.perf_counter() - started,
        "covered": {modality.name: modality.coverage for modality in modalities},
        "zero_predictor_l1": math.sqrt(2 / math.pi),
        "untrained_l1": prior,
        "trained_l1": errors(generator, space=space, world=world),
        "distances": distances(generator, space=space, world=world),
        **environment("cpu"),
    }
    append(folder / FILE, row)
    return row
