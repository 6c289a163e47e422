"""Whatever the graph and the arguments are: valid negatives, or an error that names the argument, and no hang.

Some dozen cases are tried always, and ten thousand of each kind by ``pytest -m nightly``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from pykeen.sampling import negative_sampler_resolver
from pykeen.training import SLCWATrainingLoop
from pykeen.triples import CoreTriplesFactory

import pykeen_dans
from pykeen_dans import CurriculumTrainingCallback
from pykeen_dans.engine.coupling import Coupling
from pykeen_dans.engine.curriculum import curriculum_resolver
from pykeen_dans.generators import generator_resolver
from pykeen_dans.graph.difficulty import Difficulty, difficulty_resolver
from pykeen_dans.graph.reference import _validate as validate_reference

from .trainings import make_loop
from .utils import GENERATORS, SMALL_GENERATOR, parameters_of, small, training_of

pytestmark = pytest.mark.usefixtures("shared_cache", "no_engines")

#: What may be wrong with an argument, and right with some; large numbers that merely take long are left out
VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 10**30, -0.5, 0.25, 1.5, float("nan"), float("inf"), 1 + 2j),
    *("", "x", "false", "head", b"x", (), (2, 1), (0.2, 0.1), [], [None], ["x"], {}, {"x": 1}, {1: 2}, set(), {"head"}),
    *(object(), int, len, np.int64(3), np.float32(0.5), np.bool_(True), np.str_("head"), np.array([0.2, 0.1])),
    *(np.array(2), torch.tensor(2), torch.rand(3), torch.zeros(2, 2, dtype=torch.long)),
]
TRIPLES = torch.tensor([[0, 0, 1], [1, 0, 2], [2, 1, 3], [3, 1, 0], [4, 0, 1], [5, 2, 6], [6, 2, 4]])


def check_sampler(name: str, mapped_triples: torch.Tensor, positives: torch.Tensor, **kwargs: Any) -> None:
    """Make a sampler, and check what it draws."""
    options = dict(mapped_triples=mapped_triples, num_negs_per_pos=3, random_state=0, coupling=Coupling())
    sampler = negative_sampler_resolver.lookup(name)(**{**options, **small(name), **kwargs})
    negatives, mask = sampler.sample(positives)
    assert negatives.shape == (*positives.shape[:-1], sampler.num_negs_per_pos, 3)
    assert negatives.dtype == torch.long
    assert mask is None or mask.shape == negatives.shape[:-1]
    assert ((negatives[..., [0, 2]] >= 0) & (negatives[..., [0, 2]] < sampler.num_entities)).all()
    differs = negatives != positives[..., None, :]
    assert not differs[..., 1].any()
    assert (differs[..., 0] ^ differs[..., 2]).all(), "exactly one side is replaced, whatever the positive is"


def check_loop(cls: Callable[..., SLCWATrainingLoop], **kwargs: Any) -> None:
    loop = make_loop(cls=cls, model_kwargs=dict(loss="nssa"), **kwargs)  # type: ignore[arg-type]
    loader = loop._create_training_data_loader(
        training_of("nations"), sampler=None, batch_size=64, drop_last=False, pin_memory=False
    )
    batch = next(iter(loader))
    assert torch.isfinite(loop._process_batch(batch, 0, 8))


#: What has arguments: its name, the arguments, and what to do with some of them
Target = tuple[str, list[str], Callable[..., Any]]


def targets() -> list[Target]:
    """List all that takes arguments."""
    found: list[Target] = []
    for name in GENERATORS:
        of_class = parameters_of(negative_sampler_resolver.lookup(name))
        found.append((name, sorted(set(of_class) - {"self", "coupling"}), sampler_of(name)))
    for name, options in SMALL_GENERATOR.items():
        own = set(parameters_of(generator_resolver.lookup(name))) - {"self", "dim", "num_relations", "num_bands"}
        found.append((name, sorted(own), nested("generator", name, options)))
    for cls in sorted(curriculum_resolver, key=lambda cls: cls.__name__):
        found.append((cls.__name__, sorted(set(parameters_of(cls)) - {"self"}), nested("curriculum", cls, {})))
    for difficulty in sorted(difficulty_resolver, key=lambda cls: cls.__name__):
        if difficulty.__init__ is not Difficulty.__init__:
            of_class = parameters_of(difficulty)
            found.append((difficulty.__name__, sorted(set(of_class) - {"self"}), difficulty))
    found.append(("reference", ["kind", "dim", "num_epochs", "seed", "use_tqdm"], reference))
    found.append(
        ("callback", sorted(set(parameters_of(CurriculumTrainingCallback)) - {"self"}), CurriculumTrainingCallback)
    )
    base = set(parameters_of(SLCWATrainingLoop))
    for loop in (pykeen_dans.SharedNegativesTrainingLoop, pykeen_dans.CurriculumTrainingLoop):
        found.append((loop.__name__, sorted(set(parameters_of(loop)) - base), loop_of(loop)))
    return found


def sampler_of(name: str) -> Callable[..., None]:
    def make(**kwargs: Any) -> None:
        triples = kwargs.pop("mapped_triples", TRIPLES)
        check_sampler(name, triples, TRIPLES, **kwargs)

    return make


def nested(option: str, hint: Any, options: Mapping[str, Any]) -> Callable[..., None]:
    def make(**kwargs: Any) -> None:
        check_sampler("dans_kgc", TRIPLES, TRIPLES, **{option: hint, f"{option}_kwargs": {**options, **kwargs}})

    return make


def loop_of(cls: Callable[..., SLCWATrainingLoop]) -> Callable[..., None]:
    def make(**kwargs: Any) -> None:
        check_loop(cls, **kwargs)

    return make


def reference(**kwargs: Any) -> None:
    validate_reference(**{**dict(kind="random", dim=8, num_epochs=1, seed=0, use_tqdm=False), **kwargs})


TARGETS = [target for target in targets() if target[1]]


def try_arguments(data: st.DataObject) -> None:
    """Give one thing one or two arguments of any kind."""
    name, arguments, make = data.draw(st.sampled_from(TARGETS), label="target")
    chosen = data.draw(st.lists(st.sampled_from(arguments), min_size=1, max_size=2, unique=True), label="arguments")
    values = {argument: VALUES[data.draw(st.integers(0, len(VALUES) - 1), label=argument)] for argument in chosen}
    try:
        make(**values)
    except (ValueError, TypeError) as error:
        assert any(argument in str(error) for argument in chosen), f"{name}, {values!r}: {error}"


@st.composite
def graphs(draw: st.DrawFn) -> tuple[torch.Tensor, int, int]:
    """Draw graphs with loops, duplicates, gaps, relations without triples, and inverse triples."""
    num_entities, num_relations = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    ids = st.tuples(
        st.integers(0, num_entities - 1), st.integers(0, num_relations - 1), st.integers(0, num_entities - 1)
    )
    triples = torch.tensor(draw(st.lists(ids, min_size=0, max_size=30)), dtype=torch.long).view(-1, 3)
    factory = CoreTriplesFactory(
        triples,
        num_entities=num_entities,
        num_relations=num_relations,
        create_inverse_triples=draw(st.booleans()),
    )
    return factory._add_inverse_triples_if_necessary(triples), num_entities, factory.num_relations


def try_graph(data: st.DataObject) -> None:
    """Sample for any graph, and for positives that it need not have."""
    triples, num_entities, num_relations = data.draw(graphs())
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    positives = torch.stack(
        [torch.randint(size, (2, 5), generator=draw) for size in (num_entities, num_relations, num_entities)], dim=-1
    )
    options = dict(
        share=data.draw(st.sampled_from([0.0, 0.3, 1.0])),
        corruption_scheme=data.draw(st.sampled_from([None, ["head"], ["tail"]])),
        known_answers=data.draw(st.sampled_from(["compete", "mask"])),
        memory=data.draw(st.sampled_from([1e-4, 1.0])),
        filtered=data.draw(st.booleans()),
        filterer="exact",
        # without a coupling, the bank is filled
        coupling=None,
    )
    name = data.draw(st.sampled_from(sorted(GENERATORS)))
    try:
        check_sampler(name, triples, positives, num_entities=num_entities, num_relations=num_relations, **options)
    except ValueError as error:
        if len(triples) == 0:
            assert "mapped_triples is empty" in str(error)
        else:
            assert num_entities == 1
            assert "num_entities=1: nothing can replace the only entity" in str(error)


def explored(function: Callable[[st.DataObject], None], number: int) -> None:
    """Try a number of cases, the same ones each time."""
    checks = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture]
    settings = hypothesis.settings(
        max_examples=number, deadline=None, derandomize=True, database=None, suppress_health_check=checks
    )
    settings(hypothesis.given(st.data())(function))()


@pytest.mark.parametrize("function", [try_arguments, try_graph])
def test_some_cases(function: Callable[[st.DataObject], None]) -> None:
    explored(function, 100)


@pytest.mark.nightly
@pytest.mark.parametrize("function", [try_arguments, try_graph])
def test_ten_thousand_cases(function: Callable[[st.DataObject], None]) -> None:
    explored(function, 10_000)
