"""All that is compared, in one table: a variant is a name and what it overrides in a recipe.

The recipe itself is that of uniform negatives, without what a shipped recipe says of its own sampler.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

KGC, GAN, HIERARCHICAL = "diffusionadaptive", "twowaygan", "hierarchical"
#: Their generators
GENERATORS = {KGC: "diffusion", GAN: "two-way-gan", HIERARCHICAL: "hierarchical"}
_GENERATOR = "negative_sampler_kwargs.generator_kwargs"
_CURRICULUM = "negative_sampler_kwargs.curriculum_kwargs"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to train."""

    #: what it changes in the experiment's ``pipeline``, nested as there
    overrides: Mapping[str, Any]
    #: the endings of the names of recipes that were tuned for it, the best first
    tuned: tuple[str, ...] = ("",)
    #: how tables call it, default: its name
    label: str = ""


def _own(sampler: str, label: str = "", number: int | None = None, **kwargs: Any) -> Variant:
    """Make a variant of PyKEEN's own loop and loss, with negatives of each positive's own."""
    options = kwargs if number is None else {"num_negs_per_pos": number, **kwargs}
    return Variant({"negative_sampler": sampler, "negative_sampler_kwargs": options}, label=label)


def _live(
    sampler: str, label: str = "", callback: Mapping[str, Any] | None = None, number: int | None = None, **kwargs: Any
) -> Variant:
    """Make the same with a generated sampler that is coupled to the model under training."""
    training = {"callbacks": "curriculum"} | ({"callbacks_kwargs": dict(callback)} if callback else {})
    return Variant({**_own(sampler, "", number, **kwargs).overrides, "training_kwargs": training}, label=label)


def _softmax(
    loop: str, label: str = "", tuned: str = "", sampler: Mapping[str, Any] | None = None, **kwargs: Any
) -> Variant:
    """Make a variant under softmax cross entropy, with further arguments of its loop."""
    parts = {"training_loop_kwargs": kwargs, "negative_sampler_kwargs": dict(sampler or {})}
    overrides = {"loss": "crossentropy", "training_loop": loop} | {key: part for key, part in parts.items() if part}
    return Variant(overrides, tuned=(tuned, "crossentropy") if tuned else ("crossentropy",), label=label)


def _sweep(name: str, base: Variant, path: str, values: Iterable[Any], **kwargs: Any) -> dict[str, Variant]:
    """Make a variant for each value of one option, with dots between nested keys."""
    made = {value: merge(base.overrides, nested(path, value) | kwargs) for value in values}
    return {f"{name}-{value}": Variant(overrides) for value, overrides in made.items()}


def _reading(features: Mapping[str, Any], base: Variant, label: str) -> Variant:
    """Make a variant of a model that reads features itself, which the data set brings along."""
    reads = {"dataset_kwargs": features, "model_kwargs": {"entity_representations": "multimodal"}}
    return Variant(merge(base.overrides, reads), label=label)


def nested(path: str, value: Any) -> dict[str, Any]:
    """Make nested dictionaries of keys with dots between them, and the innermost value."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Override nested dictionaries: the values of both, and those of the second where they differ."""
    result = dict(first)
    for key, value in second.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


_DANS_KGC = _live(KGC, "dans_kgc")
_DANS = _live(GAN, "dans")
#: The texts of the data set of a recipe, see :func:`suite.data.with_data_folder`
_TEXTS = {"textual": {"text": "$PYKEEN_DANS_DATA/text/{title}/entity_text.tsv.xz"}}
#: Features that take the place of images, see :func:`suite.data.synthetic_features`
_IMAGES = {"visual": {"path": "$SYNTHETIC_FEATURES.npy", "labels": "$SYNTHETIC_FEATURES.txt"}}
_VECTORS = {"vector_weight": 0.05}
_ALONE = {"distances": [1.0]}
_NEAR = {"generator_kwargs": {"pathways": ["entity"], "distances": [1.0]}}
_NEAR_RELATION = {"generator_kwargs": {"pathways": ["relation"], "distances": [1.0]}}
_NEAR_SAMPLER = {"generator": "prior", "targets": [0.2]}
_FOUR = {"num_shared": 256, "num_vectors": 4, "proposal": "uniform"}
#: Ids of each query beside a uniform pool
_IDS = {"num_shared": 256, "num_own": 8, "proposal": "uniform"}

#: name -> variant, in the order of tables
VARIANTS: dict[str, Variant] = {
    "basic": _own("basic", "uniform"),
    "basic-64": _own("basic", "uniform, 64", 64),
    "1vsall": _softmax("1vsall", "lcwa (KvsAll)", tuned="1vsall"),
    **{f"shared-{n}": _softmax("shared-negatives", f"shared, {n}", num_shared=n) for n in (64, 256, 1024, 4096)},
    # more than any graph here has: all entities, exactly
    "shared-all": _softmax("shared-negatives", "shared, all entities (1vsAll)", num_shared=10**9),
    "shared-frequency": _softmax("shared-negatives", "256, drawn by frequency", num_shared=256, proposal="frequency"),
    "shared-subsampling": _softmax("shared-negatives", num_shared=256, subsampling="frequency"),
    "bernoulli": _own("bernoulli", "Bernoulli"),
    "pseudotyped": _own("pseudotyped", "pseudo-typed"),
    "filtered": _own("basic", "uniform, known answers left out", filtered=True, filterer="exact"),
    "dans_kgc": _DANS_KGC,
    "dans": _DANS,
    "dhns": _live(HIERARCHICAL, "dhns, triples alone"),
    "dans_kgc-alone": _own(KGC, "dans_kgc, not coupled to the model"),
    # generated candidates on top of 256 shared ones: through the pool, as ids of each query, as vectors
    "loop-dans_kgc": _softmax("dans-kgc", "256 + 64 of dans_kgc", num_shared=256),
    "loop-dans": _softmax("dans", "256 + 64 of dans", num_shared=256),
    "loop-dhns": _softmax("dhns", "256 + 64 of dhns", num_shared=256),
    "loop-dhns-text": _softmax("dhns", "256 + 64 of dhns, texts", sampler={"modalities": _TEXTS}, num_shared=256),
    "loop-prior": _softmax("dans-kgc", "256 + 64 of prior", sampler={"generator": "prior"}, num_shared=256),
    "loop-vectors": _softmax("dans-kgc", "256 + vectors of the diffusion", **_FOUR),
    "loop-dans-vectors": _softmax("dans", "256 + vectors of the GAN", **_FOUR),
    "loop-near": _softmax("dans", "256 + vectors near the kept entity", sampler=_NEAR_SAMPLER | _NEAR, **_FOUR),
    "loop-dans-near": _softmax(
        "dans", "256 + vectors of the GAN's entity way", sampler={"targets": [0.2]} | _NEAR, **_FOUR
    ),
    "loop-near-relation": _softmax(
        "dans", "256 + vectors near entity and relation", sampler=_NEAR_SAMPLER | _NEAR_RELATION, **_FOUR
    ),
    "loop-near-10": _softmax(
        "dans", "the same vectors, weight 10", sampler=_NEAR_SAMPLER | _NEAR, **_FOUR, vector_weight=10.0
    ),
    "loop-near-1024": _softmax(
        "dans",
        "1,024 + vectors near the kept entity",
        sampler=_NEAR_SAMPLER | _NEAR,
        **_FOUR | {"num_shared": 1024, "vector_weight": 10.0},
    ),
    "loop-dans_kgc-ids": _softmax("dans-kgc", "256 + ids of dans_kgc", **_IDS),
    "loop-dans-ids": _softmax("dans", "256 + ids of dans", **_IDS),
    **{
        f"loop-{name}-ids": _softmax("dans-kgc", f"256 + ids of {name}", sampler={"generator": name}, **_IDS)
        for name in ("prior", "ridge")
    },
    # not coupled to the model: of a reference embedding, once
    "loop-prior-frozen": Variant(
        _softmax("shared-negatives", sampler={"generator": "prior"}, **_IDS).overrides | {"negative_sampler": KGC},
        tuned=("crossentropy",),
        label="256 + ids of prior, frozen",
    ),
    # controls: another generator, or one that has learned nothing
    **{f"dans_kgc-{name}": _live(KGC, generator=name) for name in ("prior", "ridge", "uniform")},
    "dans_kgc-untrained": _live(KGC, generator_kwargs={"trained": False}),
    "dans-untrained": _live(GAN, generator_kwargs={"trained": False}),
    "dhns-untrained": _live(HIERARCHICAL, generator_kwargs={"trained": False}),
    # the modules of DANS-KGC, each left out
    "no-dam": _live(KGC, "without DAM", generator_kwargs={"difficulty": "constant"}),
    "no-ccd": _live(KGC, "without CCD", generator_kwargs={"conditioned": False}),
    "no-dtm": _live(KGC, "without DTM", curriculum="constant"),
    "masked": _live(KGC, "known answers left out", known_answers="mask"),
    # easy to hard? each changes one thing
    "slow": _live(KGC, curriculum="exponential", curriculum_kwargs={"rate": 0.5}),
    "aggressive": _live(KGC, curriculum="exponential", curriculum_kwargs={"rate": 8.0}),
    "reversed": _live(KGC, curriculum="reversed"),
    # does pre-training matter?
    "reference-1": _live(KGC, "reference embedding of one epoch", reference_kwargs={"num_epochs": 1}),
    # steering to the targets would cancel what mu does, which is 1 by default
    "not-steered": _live(KGC, "bands not steered", {"steer": False}),
    **_sweep("mu", _live(KGC, callback={"steer": False}), _GENERATOR + ".mu", (0.0, 0.5, 1.5, 2.0)),
    **_sweep("lambda", _live(KGC, curriculum="exponential"), _CURRICULUM + ".rate", (0.5, 1.0, 3.0, 8.0)),
    **_sweep("eta", _own(KGC), "training_loop_kwargs.eta", (0.1, 0.3, 0.5, 0.7, 0.9), training_loop="curriculum"),
    **_sweep("T", _DANS_KGC, _GENERATOR + ".num_timesteps", (25, 50, 100, 200)),
    **_sweep("beta_global", _DANS_KGC, _GENERATOR + ".beta_global", (0.05, 0.1, 0.2, 0.4)),
    **_sweep("share", _DANS_KGC, "negative_sampler_kwargs.share", (0.0, 0.25, 0.5)),
    # the parts of the two-way GAN, each left out
    "entity-way": _live(GAN, "dans, entity way alone", generator_kwargs={"pathways": ["entity"]}),
    "relation-way": _live(GAN, "dans, relation way alone", generator_kwargs={"pathways": ["relation"]}),
    "no-film": _live(GAN, "dans without FiLM", generator_kwargs={"film": False}),
    "one-head": _live(GAN, "dans with one head", generator_kwargs={"two_heads": False}),
    **_sweep("Ns", _DANS, "negative_sampler_kwargs.num_negs_per_pos", (5, 10, 20, 30)),
    **_sweep("film_weight", _DANS, _GENERATOR + ".film_weight", (1e-6, 1e-5, 1e-4, 1e-3)),
    **{
        f"steps-{g}:{d}": _live(GAN, generator_kwargs={"generator_steps": g, "discriminator_steps": d})
        for g, d in ((1, 5), (1, 2), (1, 1), (2, 1), (5, 1))
    },
    "vectors": _live(GAN, "dans, vectors", _VECTORS, 16, share=0.0, targets=[0.2], generator_kwargs=_ALONE),
    "vectors-untrained": _live(
        GAN, "", _VECTORS, 16, share=0.0, targets=[0.2], generator_kwargs=_ALONE | {"trained": False}
    ),
    # diffusion or hierarchy?
    "dhns-text": _live(HIERARCHICAL, "dhns, texts", modalities=_TEXTS),
    "dhns-text-alone": _live(HIERARCHICAL, "dhns, texts alone", modalities=_TEXTS, levels=["textual"]),
    "dhns-text-untrained": _live(HIERARCHICAL, modalities=_TEXTS, generator_kwargs={"trained": False}),
    "dhns-prior": _live(HIERARCHICAL, "dhns without diffusion", generator="prior"),
    "dhns-bands-1": _live(HIERARCHICAL, modalities=_TEXTS, targets=[0.14]),
    "dhns-bands-2": _live(HIERARCHICAL, modalities=_TEXTS, targets=[0.21, 0.07]),
    "dhns-images": _live(HIERARCHICAL, "dhns, synthetic images", modalities=_IMAGES),
    # the model reads the features, too, as in the paper
    "basic-reading-text": _reading(_TEXTS, _own("basic"), "uniform, the model reads texts"),
    "dhns-reading-text": _reading(_TEXTS, _live(HIERARCHICAL), "dhns, the model reads texts"),
    "basic-reading-images": _reading(_IMAGES, _own("basic"), "uniform, the model reads synthetic images"),
    "dhns-reading-images": _reading(_IMAGES, _live(HIERARCHICAL), "dhns, the model reads synthetic images"),
}


def lookup(name: str) -> tuple[Variant, float]:
    """Find a variant and a factor of the number of epochs by a name such as ``basic`` or ``basic*2``.

    :raises ValueError: if there is no variant of this name
    """
    key, _, factor = name.partition("*")
    if key not in VARIANTS:
        raise ValueError(f"variant={name!r} is unknown; choose one of {sorted(VARIANTS)}.")
    return VARIANTS[key], float(factor or 1)


def label(name: str) -> str:
    """Tell how tables call a variant, known or not."""
    key, _, factor = name.partition("*")
    title = VARIANTS[key].label if key in VARIANTS else ""
    return (title or key) + (f", {factor} × the epochs" if factor else "")
