"""What a sampler without a callback works before the first epoch: as much as its graph is large, and once."""

from __future__ import annotations

import pathlib

import pytest
import torch
from pykeen.pipeline import pipeline

from pykeen_dans.engine import engine as engines
from pykeen_dans.engine.settings import default_fit_steps
from pykeen_dans.generators.gan import TwoWayGANGenerator
from pykeen_dans.graph import reference
from pykeen_dans.graph.reference import ReferencePlan

from .utils import make_sampler, training_of

pytestmark = pytest.mark.usefixtures("no_engines")


def test_the_start_of_a_small_graph_costs_little(isolated_cache: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the 14 entities of Nations, the sampler of most work: counted, not timed, in two trainings of one seed."""
    turns, plans = [0], []
    turn, train = TwoWayGANGenerator._turn, reference._train

    def counted_turn(*args, **kwargs):
        turns[0] += 1
        return turn(*args, **kwargs)

    def counted_train(table: torch.Tensor, *, plan: ReferencePlan, **kwargs) -> None:
        plans.append(plan)
        train(table, plan=plan, **kwargs)

    monkeypatch.setattr(TwoWayGANGenerator, "_turn", counted_turn)
    monkeypatch.setattr(reference, "_train", counted_train)
    for _ in range(2):
        pipeline(
            dataset="nations",
            model="distmult",
            negative_sampler="dans",
            training_kwargs=dict(num_epochs=1, use_tqdm=False),
            evaluation_kwargs=dict(use_tqdm=False),
            random_seed=7,
            device="cpu",
        )
    num_positives = 2 * training_of("nations").num_triples
    assert 7 < turns[0] * 512 / num_positives <= 8
    (plan,) = plans
    assert plan.num_updates * plan.batch_size < 25 * training_of("nations").num_triples


@pytest.mark.usefixtures("shared_cache")
@pytest.mark.parametrize("use_tqdm", [True, False])
def test_the_start_is_shown(use_tqdm: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Bars tell of the generator's training and of the bank, unless they are not wanted."""
    # what takes a moment only may go without
    monkeypatch.setattr(engines, "_PATIENCE", 0.0, raising=False)
    engine = make_sampler("nations", fit_steps=0).engine
    capfd.readouterr()
    engine.prepare_alone(fit_steps=3, use_tqdm=use_tqdm)
    shown = capfd.readouterr().err
    assert ("Training the generator:   0%|          | 0/3" in shown) == use_tqdm
    assert ("Generating negatives: " in shown) == use_tqdm


@pytest.mark.usefixtures("shared_cache")
def test_the_number_of_training_steps() -> None:
    """It grows with the graph up to a limit, and is what is asked for where it is."""
    assert [default_fit_steps(number) for number in (1, 1_280, 3_184, 32_000, 10**9)] == [20, 20, 49, 500, 500]
    for given, steps in ((None, 49), (3, 3), (0, 0)):
        sampler = make_sampler("nations", generator="two-way-gan", fit_steps=given)
        generator = sampler.engine.generator
        assert isinstance(generator, TwoWayGANGenerator)
        counts = {int(state["step"]) for state in generator.generator_optimizer.state.values()}
        assert counts == ({steps} if steps else set())
