"""What is kept of an engine with a checkpoint, and how another engine goes on from there.

The state consists of tensors, numbers and names. Steering, bank, turns and generator each tell their own; beside these
there are the source of randomness, the trust in the generator, and the vectors of the space that was last entered.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from ..space import EntitySpace
from ..utils.storage import content_key
from .engine import GenerationEngine

__all__ = [
    "engine_state",
    "restore_engine",
]


def _made_for(engine: GenerationEngine) -> str:
    """Tell a key of the triples and options without which the state of an engine means nothing."""
    settings = engine.settings
    return content_key(
        triples=engine.graph.mapped_triples,
        options=[settings.targets, settings.sides, settings.num_slots, settings.known_answers],
        generator=[engine.kind, list(engine.sources)],
    )


def engine_state(engine: GenerationEngine) -> dict[str, Any]:
    """Tell all that a training which is resumed needs: what was generated, and what generates.

    :param engine: the engine

    :returns: its state, whose tensors are those of the engine
    """
    state: dict[str, Any] = {"made_for": _made_for(engine)}
    if not engine.generates:
        return state
    return state | {
        "random": engine.random.get_state(),
        "trust": [engine.trust, engine.least_trust],
        "steering": engine.steering.state_dict(),
        "bank": engine.bank.state_dict(),
        "turns": engine.turns.state_dict(),
        "space": None if engine.space is None else engine.space.state_dict(),
        "generator": None if engine.generator is None else engine.generator.state_dict(),
    }


def restore_engine(engine: GenerationEngine, state: Mapping[str, Any], *, device: torch.device) -> None:
    """Go on where another engine was.

    :param engine: the engine
    :param state: what :func:`engine_state` told of the other one
    :param device: where to generate

    :raises ValueError: if the other one was made for other triples or options
    """
    if state["made_for"] != _made_for(engine):
        raise ValueError("it was made for other triples, or by another sampler")
    if not engine.generates:
        return
    engine.bank.load_state_dict(state["bank"])
    engine.steering.load_state_dict(state["steering"])
    engine.turns.load_state_dict(state["turns"])
    if state["space"] is not None:
        generator = engine.enter(EntitySpace.from_state_dict(state["space"], device=device))
        # optimisers would keep the tensors that they are given
        generator.load_state_dict(copy.deepcopy(state["generator"]))
    engine.trust, engine.least_trust = state["trust"]
    engine.random.set_state(state["random"])
