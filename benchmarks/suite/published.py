"""Published figures, to stand beside ours. None of them was measured here, and few can be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

__all__ = [
    "PUBLISHED",
    "PublishedTable",
]


@dataclasses.dataclass(frozen=True)
class PublishedTable:
    """Figures of one source.

    :param title: what they are of
    :param source: where they come from, and whether they were read in the paper itself, as reST
    :param headers: the names of columns
    :param lines: the lines
    :param comparison: how they relate to ours, as reST
    """

    title: str
    source: str
    headers: Sequence[str]
    lines: Sequence[Sequence[str]]
    comparison: str


PUBLISHED: tuple[PublishedTable, ...] = (
    PublishedTable(
        title="DANS-KGC",
        source=(
            "Of the paper [Li2025]_. *Second-hand*: from a secondary summary, not checked against the paper, which was "
            "not available. Figures of its other data sets are unknown, and so is the data set of the ablation."
        ),
        headers=("data", "MRR"),
        lines=(
            ("UMLS (split unknown)", ".972"),
            ("YAGO3-10", ".572"),
            ("ablation: all parts", ".994"),
            ("ablation: w/o CCD", ".989"),
        ),
        comparison=(
            "Not comparable with ours: its scoring function, split and budget are unknown. Our figures on UMLS are "
            "lower, and YAGO3-10 as a whole was not measured."
        ),
    ),
    PublishedTable(
        title="DANS",
        source=(
            "Of `Liu et al. (2024) <https://arxiv.org/abs/2410.07592>`__. *Second-hand*: extracted from the paper by a "
            "language model, in a public repository; not checked against the paper. MRR / Hits@1 / NDCG@5, and a dash "
            "where nothing was extracted."
        ),
        headers=("decoder", "negatives", "WN18RR", "NELL-995", "UMLS"),
        lines=(
            ("DistMult", "random", ".372 / .343 / .369", ".218 / .146 / .219", "— / .607 / —"),
            ("DistMult", "DANS", ".381 / .352 / .386", ".227 / .162 / .220", ".724 / .641 / .725"),
            ("RotatE", "random", "— / .110 / —", "—", ".817 / .683 / .855"),
            ("RotatE", "DANS", ".249 / .154 / .274", ".195 / .135 / .208", ".833 / .716 / .866"),
            ("ComplEx", "random", ".386 / .346 / .390", "—", ".898 / .822 / .920"),
            ("ComplEx", "DANS", ".404 / .347 / .392", ".257 / .186 / .255", ".920 / .857 / .927"),
        ),
        comparison=(
            "The split of UMLS is that of PyKEEN, so that figures on it can be put side by side, though its vectors go "
            "through an RGCN encoder and ours do not. WN18RR differs by test triples with unseen entities, which "
            "PyKEEN leaves out (about .03 in our favour), and its NELL-995 is another one than ours."
        ),
    ),
    PublishedTable(
        title="DHNS",
        source=(
            "Of `Niu and Zhang (2025) <https://arxiv.org/abs/2501.15393>`__. *Second-hand*: extracted from a scan of "
            "the paper by a language model, in a public repository; not checked against the paper. MRR."
        ),
        headers=("model", "negatives", "DB15K", "MKG-W", "MKG-Y"),
        lines=(
            ("TransE", "uniform", ".2486", ".2919", ".3073"),
            ("TransE", "DHNS", ".3263", ".3383", ".3668"),
            ("DistMult", "uniform", ".2099", ".2099", ".2504"),
            ("DistMult", "DHNS", ".2720", ".2586", ".3701"),
            ("RotatE", "uniform", ".2928", ".3367", ".3495"),
            ("RotatE", "DHNS", ".3436", ".3568", ".3911"),
        ),
        comparison=(
            "Not comparable with the structural rows here: the paper's model uses features of images and texts which "
            "are not public in a form that could be reached, and the validation triples of its DB15K overlap with its "
            "training triples."
        ),
    ),
    PublishedTable(
        title="Embedding models elsewhere",
        source=(
            "Read in the documentation of LibKGE and CoDEx: the best configuration of each model. MRR, with test "
            "triples of unseen entities, which PyKEEN leaves out."
        ),
        headers=("data", "TransE", "DistMult", "ComplEx", "RotatE"),
        lines=(
            ("FB15k-237", ".313", ".343", ".348", ".333"),
            ("WN18RR", ".228", ".452", ".475", ".478"),
            ("CoDEx-S", ".354", "—", ".465", "—"),
        ),
        comparison=(
            "Our recipes have fewer dimensions, negatives and epochs, so that two cores can repeat them. Where they "
            "are lower, the first table of results says so."
        ),
    ),
)
