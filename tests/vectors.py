"""Small models with an engine, for the tests of the latent loss."""

from __future__ import annotations

import functools
from typing import Any

import torch
from pykeen.losses import MarginRankingLoss
from pykeen.models import ERModel, model_resolver
from pykeen.triples import CoreTriplesFactory

from pykeen_dans.engine.curriculum import CurriculumState
from pykeen_dans.engine.engine import GenerationEngine
from pykeen_dans.engine.settings import EngineSettings
from pykeen_dans.generators.base import Budget
from pykeen_dans.generators.diffusion import DiffusionGenerator
from pykeen_dans.graph import HEAD, TAIL
from pykeen_dans.space.entity_space import live_space

from .toys import NUM_ENTITIES, NUM_RELATIONS, clustered_triples

TRIPLES = clustered_triples()
STATE = CurriculumState(weights=(0.4, 0.6), share=0.25, margin_factor=0.5)
LOSS = MarginRankingLoss(margin=3.0)
MODELS = ["TransE", "DistMult", "ComplEx", "RotatE", "RGCN"]


def make_model(name: str = "TransE", **kwargs: Any) -> ERModel[Any, Any, Any]:
    factory = CoreTriplesFactory(TRIPLES, num_entities=NUM_ENTITIES, num_relations=NUM_RELATIONS)
    model = model_resolver.make(name, triples_factory=factory, embedding_dim=4, random_seed=0, **kwargs)
    assert isinstance(model, ERModel)
    return model.train()


def make_engine(model: ERModel[Any, Any, Any]) -> GenerationEngine:
    engine = GenerationEngine(
        mapped_triples=TRIPLES,
        num_entities=NUM_ENTITIES,
        num_relations=NUM_RELATIONS,
        settings=EngineSettings(
            targets=(0.3, 0.1),
            min_spread=0.05,
            num_slots=4,
            memory=16.0,
            decoder=None,
            decoder_kwargs=None,
            difficulty="constant",
            difficulty_kwargs=None,
            num_types=4,
            reference_kwargs={"kind": "random", "dim": 8},
            device=None,
            sides=(HEAD, TAIL),
            seed=0,
        ),
        make_generator=functools.partial(
            DiffusionGenerator, num_relations=NUM_RELATIONS, hidden_dim=8, batch_size=32, bands=(20, 5)
        ),
    )
    engine.enter(live_space(model))
    engine.fit(Budget(units=2))
    return engine


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
