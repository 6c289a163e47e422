"""The generator over several modalities: what its levels mean, what it learns, and what the published one does not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pykeen.typing import FloatTensor, LongTensor
from sklearn.linear_model import Ridge

from pykeen_dans.bank import SpreadDecoder
from pykeen_dans.graph import Graph
from pykeen_dans.multimodal.generator import HierarchicalGenerator
from pykeen_dans.multimodal.levels import FeatureProjection, SemanticLevel
from pykeen_dans.space import EntitySpace
from pykeen_dans.space.combination import RotationCombination, TranslationCombination
from pykeen_dans.utils.budget import Budget

from .toys import (
    CLUSTER_SIZE,
    DIM,
    NUM_CLUSTERS,
    NUM_ENTITIES,
    NUM_RELATIONS,
    ToyGraph,
    clustered_graph,
    clustered_space,
    clustered_vectors,
    functional_graph,
    random_space,
    seeded,
)

SPACE = clustered_space()
GRAPH = clustered_graph(typed=False)
QUERIES = GRAPH.index.select(torch.arange(GRAPH.index.num_queries))
#: the mean absolute size of standard normal noise, the error of who predicts none
ZERO_PREDICTOR = math.sqrt(2 / math.pi)


def features_of_cluster(num_features: int = 5, *, seed: int = 1) -> FloatTensor:
    """Make features by which entities of a cluster are alike."""
    random = seeded(seed)
    centres = torch.randn(NUM_CLUSTERS, num_features, generator=random).repeat_interleave(CLUSTER_SIZE, dim=0)
    return centres + 0.1 * torch.randn(NUM_ENTITIES, num_features, generator=random)


def textual_level(covered: torch.Tensor | None = None) -> SemanticLevel:
    covered = torch.ones(NUM_ENTITIES, dtype=torch.bool) if covered is None else covered
    return SemanticLevel("textual", FeatureProjection(features=features_of_cluster(), covered=covered))


BOTH = (textual_level(), SemanticLevel("structural"))


def make_generator(**kwargs: Any) -> HierarchicalGenerator:
    torch.manual_seed(0)
    options: dict[str, Any] = {"dim": DIM, "num_relations": NUM_RELATIONS, "batch_size": 128, "hidden_dim": 64}
    options["learning_rate"] = 5e-3
    return HierarchicalGenerator(**{**options, **kwargs})


def fit(
    generator: HierarchicalGenerator, num_steps: int, *, space: EntitySpace = SPACE, graph: Graph = GRAPH, seed: int = 0
) -> dict[str, float]:
    torch.manual_seed(seed)
    return generator.fit(space=space, graph=graph, budget=Budget(units=num_steps), random=seeded(seed)).metrics


def generate(generator: HierarchicalGenerator, *, seed: int = 0) -> FloatTensor:
    return generator.generate(space=SPACE, graph=GRAPH, queries=QUERIES, random=seeded(seed))


# Semantic levels


def test_projection_is_ridge_regression() -> None:
    features = torch.randn(200, 4, generator=seeded())
    target = features @ torch.randn(4, 3, generator=seeded(1)) + torch.randn(200, 3, generator=seeded(2)) + 2.0
    covered = torch.arange(200) % 2 == 0
    projection = FeatureProjection(features=features, covered=covered)
    predicted = projection(target)
    known = features[covered].numpy()
    # relative to the number of entities and the variance of a feature
    ridge = Ridge(alpha=0.1 * 100 * known.var(axis=0).mean()).fit(known, target[covered].numpy())
    torch.testing.assert_close(predicted, torch.from_numpy(ridge.predict(known)).float(), atol=1e-4, rtol=1e-4)
    # what is true of entities without features plays no role
    target[~covered] = 1e6
    torch.testing.assert_close(projection(target), predicted)


def test_projection_follows_the_structural_vectors() -> None:
    projection = FeatureProjection(
        features=torch.randn(50, 4, generator=seeded()), covered=torch.ones(50, dtype=torch.bool)
    )
    target = torch.randn(50, 3, generator=seeded(1))
    first = projection(target)
    torch.testing.assert_close(projection(-3 * target), -3 * first)


def test_projection_of_features_that_tell_nothing_is_the_mean() -> None:
    projection = FeatureProjection(features=torch.ones(20, 3), covered=torch.ones(20, dtype=torch.bool))
    target = torch.randn(20, 2, generator=seeded())
    torch.testing.assert_close(projection(target), target.mean(dim=0).expand(20, 2))


def test_what_is_alike_in_a_modality_is_alike_in_its_space() -> None:
    space = textual_level().space(random_space(NUM_ENTITIES, DIM))
    similarity = torch.nn.functional.normalize(space.vectors, dim=-1)
    nearest = (similarity @ similarity.T).fill_diagonal_(-2).topk(5).indices
    assert (nearest // CLUSTER_SIZE == torch.arange(NUM_ENTITIES)[:, None] // CLUSTER_SIZE).float().mean() > 0.95


def test_space_of_a_modality_is_standardised_over_the_covered_entities() -> None:
    covered = torch.arange(NUM_ENTITIES) % 3 > 0
    space = textual_level(covered).space(SPACE)
    assert space.members is not None
    assert torch.equal(space.members, covered.nonzero().squeeze(dim=-1))
    known = space.vectors[covered]
    torch.testing.assert_close(known.mean(dim=0), torch.zeros(DIM), atol=1e-5, rtol=0)
    torch.testing.assert_close(known.std(dim=0, unbiased=False), torch.ones(DIM), atol=1e-4, rtol=0)
    # others are kept entities of queries, too: they have their structural vectors, in the units of the modality
    torch.testing.assert_close(space.vectors[~covered], SPACE.vectors[~covered], atol=1e-3, rtol=1e-3)


def test_space_of_a_complex_model_stays_complex() -> None:
    entities = torch.randn(NUM_ENTITIES, 4, dtype=torch.cfloat, generator=seeded())
    relations = torch.randn(NUM_RELATIONS, 4, dtype=torch.cfloat, generator=seeded())
    structural = EntitySpace.create(entities=entities, relations=relations, combination=RotationCombination())
    space = textual_level().space(structural)
    assert space.raw_entities.dtype == torch.cfloat
    assert space.raw_entities.shape == entities.shape
    torch.testing.assert_close(space.restore(space.vectors), space.raw_entities, atol=1e-4, rtol=1e-4)
    assert space.queries(*(torch.tensor([0, 1]) for _ in range(3))).shape == (2, 8)


def test_each_level_is_a_source_with_a_space_of_its_own() -> None:
    generator = make_generator(levels=BOTH, num_bands=3)
    assert generator.sources == ("textual", "structural")
    # the curriculum moves along levels, too
    assert generator.ordered
    textual, structural = generator.spaces(SPACE)
    assert structural is SPACE
    assert not torch.allclose(textual.vectors, SPACE.vectors)
    # they are made once for each structural space
    assert generator.spaces(SPACE)[0] is textual
    assert generator.spaces(clustered_space(seed=1))[0] is not textual
    assert generate(generator).shape == (len(QUERIES), 3, 2, DIM)


def test_structural_level_alone_is_the_default() -> None:
    generator = make_generator()
    assert [level.name for level in generator.levels] == ["structural"]
    assert sorted(fit(generator, 2)) == ["noise_error", "ridge_error"]
    assert generate(generator).shape == (len(QUERIES), 4, 1, DIM)


def test_levels_are_told_apart_by_name_and_features() -> None:
    """By this, samplers without a callback know whether they may share an engine."""
    one, again = (repr(textual_level()) for _ in range(2))
    assert one == again
    other = SemanticLevel(
        "textual",
        FeatureProjection(features=features_of_cluster(seed=2), covered=torch.ones(NUM_ENTITIES, dtype=torch.bool)),
    )
    assert len({one, repr(other), repr(SemanticLevel("textual")), repr(SemanticLevel("structural"))}) == 4


def test_entities_that_a_modality_does_not_cover_are_never_decoded_from_it() -> None:
    covered = torch.rand(NUM_ENTITIES, generator=seeded()) < 0.4
    generator = make_generator(levels=(textual_level(covered), SemanticLevel("structural")))
    fit(generator, 5)
    ids = SpreadDecoder(num_slots=8, min_candidates=8)(
        generate(generator),
        spaces=generator.spaces(SPACE),
        index=GRAPH.index,
        rows=QUERIES.rows,
        spreads=[[0.5, 0.5]] * generator.num_bands,
        random=seeded(),
    )
    textual, structural = ids.unbind(dim=2)
    assert covered[textual[textual >= 0]].all()
    assert not covered[structural[structural >= 0]].all()


def test_a_modality_of_entities_that_answer_nothing_is_left_untrained() -> None:
    graph = ToyGraph(
        types=torch.zeros(NUM_ENTITIES, dtype=torch.long),
        difficulty=torch.full((NUM_ENTITIES,), 0.5),
        mapped_triples=torch.tensor([[0, 0, 1], [1, 0, 2], [2, 0, 0]]),
        num_entities=NUM_ENTITIES,
        num_relations=NUM_RELATIONS,
    )
    generator = make_generator(levels=(textual_level(torch.arange(NUM_ENTITIES) > 2), SemanticLevel("structural")))
    assert sorted(fit(generator, 2, graph=graph)) == ["noise_error_structural", "ridge_error_structural"]


# What it learns


def test_it_remembers_a_hundred_triples() -> None:
    """The published configuration cannot do that."""
    graph, space = functional_graph(100), random_space(200, 16)
    torch.manual_seed(0)
    generator = HierarchicalGenerator(
        dim=16, num_relations=5, batch_size=128, noise_loss="l1", condition_dropout=0.0, learning_rate=1e-2
    )
    fit(generator, 110, space=space, graph=graph)
    assert fit(generator, 20, space=space, graph=graph)["noise_error"] < 0.4 < ZERO_PREDICTOR


@pytest.mark.parametrize("shared", [True, False])
def test_every_modality_learns_what_its_ridge_cannot(shared: bool) -> None:
    generator = make_generator(levels=BOTH, shared=shared)
    fit(generator, 50)
    metrics = fit(generator, 10, seed=1)
    for name in generator.sources:
        assert metrics[f"noise_error_{name}"] < 0.85 * metrics[f"ridge_error_{name}"]


def test_one_network_is_shared_or_each_modality_has_its_own() -> None:
    shared, apart = make_generator(levels=BOTH), make_generator(levels=BOTH, shared=False)
    assert shared.process(0).denoiser is shared.process(1).denoiser
    assert apart.process(0).denoiser is not apart.process(1).denoiser
    assert sum(p.numel() for p in apart.parameters()) > 1.8 * sum(p.numel() for p in shared.parameters())


def test_a_shared_network_is_told_the_modality() -> None:
    generator = make_generator(levels=(SemanticLevel("structural"), SemanticLevel("again")))
    fit(generator, 10)
    first, second = (generator.process(level) for level in range(2))
    second.gaussian.load_state_dict(first.gaussian.state_dict())
    vectors = []
    for process in (first, second):
        answers = GRAPH.index.sample_answer(QUERIES.rows, seeded())
        surroundings = generator.surroundings(SPACE, GRAPH)
        with torch.no_grad():
            vectors.append(
                process.generate(
                    space=SPACE, queries=QUERIES, answers=answers, surroundings=surroundings, random=seeded()
                )
            )
    assert not torch.allclose(*vectors, atol=1e-3)


def truth_distances(generator: HierarchicalGenerator, answers: LongTensor, *, repeats: int = 4) -> FloatTensor:
    """Measure how far generated vectors are from true answers, shape: (num_bands, num_levels), easy first."""
    truth = torch.stack([space.vectors[answers] for space in generator.spaces(SPACE)], dim=1)
    vectors = torch.stack([generate(generator, seed=seed) for seed in range(repeats)])
    return (vectors - truth[:, None]).norm(dim=-1).mean(dim=(0, 1))


@pytest.mark.parametrize("num_steps", [4, None])
def test_distance_to_the_true_entity_falls_strictly_with_hardness(num_steps: int | None) -> None:
    generator = make_generator(levels=BOTH, num_steps=num_steps)
    fit(generator, 40)
    distances = truth_distances(generator, GRAPH.index.sample_answer(QUERIES.rows, seeded()))
    assert (distances[:-1] > distances[1:]).all()


def test_swapping_the_relation_changes_what_is_generated() -> None:
    generator = make_generator(levels=BOTH)
    fit(generator, 20)
    chosen = torch.arange(40)
    queries = GRAPH.index.select(chosen)
    swapped = type(queries)(
        rows=queries.rows, kept=queries.kept, relations=(queries.relations + 1) % NUM_RELATIONS, sides=queries.sides
    )
    before, after = (
        generator.generate(space=SPACE, graph=GRAPH, queries=q, random=seeded()) for q in (queries, swapped)
    )
    assert ((before - after).norm(dim=-1) > 0.05).all()


def test_heads_and_tails_have_chains_of_their_own() -> None:
    """The published head sample is one more step from the state of the tail's chain."""
    generator = make_generator(levels=BOTH)
    fit(generator, 20)
    queries = GRAPH.index.select(torch.arange(40))
    other = type(queries)(rows=queries.rows, kept=queries.kept, relations=queries.relations, sides=1 - queries.sides)
    one, flipped = (generator.generate(space=SPACE, graph=GRAPH, queries=q, random=seeded()) for q in (queries, other))
    assert ((one - flipped).norm(dim=-1) > 0.05).all()


def test_noise_control_knows_nothing_of_the_query() -> None:
    control, generator = make_generator(levels=BOTH, trained=False), make_generator(levels=BOTH)
    assert fit(control, 10) == {}
    fit(generator, 40)
    answers = GRAPH.index.sample_answer(QUERIES.rows, seeded())
    assert (truth_distances(control, answers)[-1] > 1.2 * truth_distances(generator, answers)[-1]).all()


def test_steering_moves_the_bands_of_one_level_alone() -> None:
    generator = make_generator(levels=BOTH, bands=(20, 10), num_bands=2)
    # the hard band of the textual level, and the easy one of the structural level
    assert generator.adjust_hardness(1, 0, harder=True)
    assert generator.adjust_hardness(0, 1, harder=False)
    assert [generator.process(level).bands for level in range(2)] == [[20, 9], [21, 10]]


def test_all_entities_have_the_same_noise_unless_something_else_is_asked_for() -> None:
    assert make_generator().schedule.mu == 0
    assert make_generator().difficulty == "constant"
    other = make_generator(mu=0.5, difficulty="degree")
    assert (other.schedule.mu, other.difficulty) == (0.5, "degree")


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"bands": (5, 10)}, "bands"),
        ({"noise_loss": "l3"}, "noise_loss"),
        ({"hidden_dim": 1}, "hidden_dim"),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        HierarchicalGenerator(dim=4, num_relations=2, **kwargs)


def test_condition_moves_along_the_relation_with_the_right_sign() -> None:
    """The published code subtracts the relation from the head where the model adds it."""
    entities, relations = clustered_vectors()
    space = EntitySpace.create(entities=entities, relations=relations, combination=TranslationCombination())
    kept, relation = torch.tensor([3, 3]), torch.tensor([1, 1])
    tail, head = space.queries(kept, relation, torch.tensor([1, 0])) * space.query_scale
    torch.testing.assert_close(tail, entities[3] + relations[1])
    torch.testing.assert_close(head, entities[3] - relations[1])
