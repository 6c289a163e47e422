"""Small models with an engine, for the tests of the loss of generated vectors."""

from __future__ import annotations

import functools
from typing import Any

import torch
from pykeen.losses import MarginRankingLoss
from pykeen.models import ERModel, model_resolver

from pykeen_dans.engine.curriculum import CurriculumState
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.engine.settings import EngineSettings
from pykeen_dans.generators import DiffusionGenerator
from pykeen_dans.graph import HEAD, TAIL, Graph
from pykeen_dans.space import live_space
from pykeen_dans.utils.budget import Budget

from .utils import training_of

FACTORY = training_of("nations")
TRIPLES = FACTORY.mapped_triples
NUM_ENTITIES, NUM_RELATIONS = FACTORY.num_entities, FACTORY.num_relations
#: Two bands, with a margin of a half at this stage
STATE = CurriculumState(band_weights=(0.4, 0.6), source_weights=(1.0,), margin_factors=(0.8, 0.3))
LOSS = MarginRankingLoss(margin=3.0)
MODELS = ["TransE", "DistMult", "ComplEx", "RotatE", "RGCN"]


def make_model(name: str = "TransE", **kwargs: Any) -> ERModel[Any, Any, Any]:
    model = model_resolver.make(name, triples_factory=FACTORY, embedding_dim=4, random_seed=0, **kwargs)
    assert isinstance(model, ERModel)
    return model.train()


def make_engine(model: ERModel[Any, Any, Any]) -> GenerationEngine:
    reference = {"kind": "random", "dim": 8}
    engine = GenerationEngine(
        graph=Graph(
            mapped_triples=TRIPLES,
            num_entities=NUM_ENTITIES,
            num_relations=NUM_RELATIONS,
            reference_kwargs=reference,
        ),
        settings=EngineSettings(
            targets=(0.45, 0.2), sides=(HEAD, TAIL), seed=0, num_slots=4, reference_kwargs=reference
        ),
        make_generator=functools.partial(
            DiffusionGenerator,
            num_relations=NUM_RELATIONS,
            hidden_dim=8,
            batch_size=32,
            num_types=4,
            difficulty="constant",
        ),
    )
    engine.enter(live_space(model))
    engine.fit(Budget(units=2))
    return engine


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def seeded(seed: int = 0) -> torch.Generator:
    """Make a source of randomness."""
    return torch.Generator().manual_seed(seed)
