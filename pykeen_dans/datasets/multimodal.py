"""The data sets of multi-modal knowledge graph completion: DB15K, MKG-W and MKG-Y.

These classes download the triples only: the features of images and texts that papers use are published in places which
ask for a browser. Whoever has them gives their files by keyword, and the training triples bring them along, see
:func:`pykeen_dans.multimodal.attach_modalities`, so that samplers and models find them:

.. code-block:: python

    pipeline(
        dataset="MKGW",
        dataset_kwargs=dict(visual="MKG-W-visual.pth", textual="MKG-W-textual.pth"),
        model="RotatE",
        model_kwargs=dict(entity_representations="multimodal"),
    )
"""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

from docdata import parse_docdata
from pykeen.datasets.base import Dataset

from ..multimodal import attach_modalities
from ..utils.validation import validate_at_least, validate_choice
from .base import OpenKEDataset, github_raw

__all__ = [
    "DB15K",
    "MKGW",
    "MKGY",
    "MultimodalDataset",
]

logger = logging.getLogger(__name__)

_SOURCE = github_raw("ngl567/DHNS", "02d8de0d321016798717fc1fce7c3b41f544eee5", "benchmarks")

#: The entry of DB15K's metadata that tells where its validation triples come from
_VALIDATION = "validation"


class MultimodalDataset(OpenKEDataset):
    """A data set whose entities have features beside their triples."""

    def __init__(self, *, textual: Any = None, visual: Any = None, numeric: Any = None, **kwargs: Any) -> None:
        """Initialize the data set.

        Features are given in any of the ways that :func:`pykeen_dans.multimodal.load_modalities` knows, best as paths.
        They are not loaded before they are used. The rows of a file without labels, as the published ``.pth`` files,
        are taken to be in the order of ``entities.txt`` in the data set's directory, which is that of the published
        integers.

        :param textual: The features of texts, or ``{"text": path}`` for a table of labels and texts.
        :param visual: The features of images.
        :param numeric: The features of numbers.
        :param kwargs: Keyword arguments to pass to :class:`DecodedDataset`.
        """
        self._given = {"textual": textual, "visual": visual, "numeric": numeric}
        super().__init__(**kwargs)

    @property
    def modalities(self) -> dict[str, Any]:
        """The features that were given, by the name of their modality, with the order of rows of files."""
        modalities = {name: value for name, value in self._given.items() if value is not None}
        order = self.cache_root.joinpath("entities.txt")
        for name, value in modalities.items():
            if isinstance(value, str | pathlib.Path):
                modalities[name] = value = {"path": str(value)}
            # somebody may have put the triples alone into the directory
            if isinstance(value, Mapping) and "path" in value and order.is_file():
                modalities[name] = {"labels": str(order), **value}
        return modalities

    # docstr-coverage: inherited
    def _load(self) -> None:
        super()._load()
        assert self._training is not None
        if self.modalities:
            attach_modalities(self._training, self.modalities)


def _warn_of_published(metadata: Mapping[str, Any] | None) -> None:
    if (metadata or {}).get(_VALIDATION) == "published":
        logger.warning(
            "The published validation split of DB15K overlaps with its training triples (6,584 of 7,481) and test "
            "triples (824): do not select models on it. Use validation='held-out' for that."
        )


@parse_docdata
class DB15K(MultimodalDataset):
    """The DB15K data set, with a validation split that is held out of the training triples.

    .. warning::

        The *published* validation split is not held out: it has 7,481 different triples, of which 6,584 are training
        triples too, and 824 are test triples. A model that is selected on it is selected on what it has been trained
        on, and in part on test triples.

        Hence the default is ``validation="held-out"``: a tenth of the published training triples becomes the validation
        split, in a seeded random choice which leaves each entity and relation at least one training triple, and the
        published validation split is not used. The test split is the published one in either case.
        With ``validation="published"`` there are 79,222 training and 7,477 validation triples, for comparison with
        published results, which were obtained in this way.

    ---
    name: DB15K
    citation:
        author: Liu
        year: 2019
        link: https://arxiv.org/abs/1903.05485
        github: ngl567/DHNS
    statistics:
        entities: 12785
        relations: 273
        training: 71299
        testing: 9818
        validation: 7923
        triples: 89040
    """

    source_url = f"{_SOURCE}/DB15K"
    sha256 = {
        "train.txt": "b9682bf636f31fcf985e31f8d112d194aa7234b168b74db46c07f44e3eabdbec",
        "valid.txt": "24809ceac613ffc38cb6e92c812beb999027c50110ba51e851fc08f4e0b7de70",
        "test.txt": "387b1de5d4bdac75eb95ce42c336a64cc36ae807cfb4387b128e56e48dfd1465",
        "entities.txt": "55080fb3bafd745aea62cc7d125367f3f8aa922c48e8a6d5f188dc374c96e006",
        "relations.txt": "a377098daf1700411eb651f363999b145479ed710d1d919b4e38bfc4ae707632",
    }

    metadata: Mapping[str, Any]
    #: The share of the training triples that is held out
    held_out_ratio: float = 0.1

    def __init__(
        self, *, validation: Literal["held-out", "published"] = "held-out", random_state: int = 0, **kwargs: Any
    ) -> None:
        """Initialize the data set.

        :param validation: Where the validation triples come from: ``"held-out"`` takes a tenth of the training triples,
            ``"published"`` is the published split, which overlaps with training and test triples.
        :param random_state: The seed of the choice of held-out triples.
        :param kwargs: Keyword arguments to pass to :class:`MultimodalDataset`.

        :raises ValueError: if ``validation`` is neither of these, or ``random_state`` no whole number of at least 0.
        """
        # PyKEEN writes this into its cache of data sets, from where it comes back without this constructor
        self.metadata = {_VALIDATION: validate_choice("validation", validation, ("held-out", "published"))}
        self.random_state = validate_at_least("random_state", random_state, 0)
        _warn_of_published(self.metadata)
        super().__init__(**kwargs)

    # docstr-coverage: inherited
    @classmethod
    def from_directory_binary(cls, path: str | pathlib.Path) -> Dataset:  # noqa: D102
        dataset = super().from_directory_binary(path)
        _warn_of_published(dataset.metadata)
        return dataset

    # docstr-coverage: inherited
    def _load(self) -> None:
        super()._load()
        if self.metadata[_VALIDATION] == "held-out":
            # the test triples were mapped with the entities of all training triples, and a split keeps the mapping
            assert self._training is not None
            self._training, self._validation = self._training.split(
                ratios=1 - self.held_out_ratio, random_state=self.random_state
            )

    # docstr-coverage: inherited
    def _load_validation(self) -> None:
        if self.metadata[_VALIDATION] == "published":
            super()._load_validation()


@parse_docdata
class MKGW(MultimodalDataset):
    """The MKG-W data set, a part of Wikidata whose entities have images and descriptions.

    Of its 15,000 entities, 491 do not occur in training triples, and neither does one of its 169 relations. As usual,
    PyKEEN drops the validation and test triples with these.

    ---
    name: MKG-W
    citation:
        author: Xu
        year: 2022
        link: https://doi.org/10.1145/3503161.3548388
        github: ngl567/DHNS
    statistics:
        entities: 14509
        relations: 168
        training: 34196
        testing: 3968
        validation: 3942
        triples: 42106
    """

    source_url = f"{_SOURCE}/MKG-W"
    sha256 = {
        "train.txt": "dcb800003ec7438b1ff458da31140a211056bf5b6168c2973e9f25f3a2eaf86d",
        "valid.txt": "086ac994b4719186da38ab457c3ed13bd41060e25a0801f0164f8912953067b6",
        "test.txt": "4f361218916d07c58c55db2c4ee46a2bd4ffe4bc3e04d7935b3feb275c736a69",
        "entities.txt": "4983d3e982c645841829907c18878be45f57bd235da482601c2231021bc82e86",
        "relations.txt": "d5977e47250c75a21002d3a7d1d51c592aabd9d2cf84a0e8907e6694ad675eb6",
    }


@parse_docdata
class MKGY(MultimodalDataset):
    """The MKG-Y data set, a part of YAGO whose entities have images and descriptions.

    Of its 15,000 entities, 612 do not occur in training triples. As usual, PyKEEN drops the validation and test triples
    with these entities.

    ---
    name: MKG-Y
    citation:
        author: Xu
        year: 2022
        link: https://doi.org/10.1145/3503161.3548388
        github: ngl567/DHNS
    statistics:
        entities: 14388
        relations: 28
        training: 21310
        testing: 2275
        validation: 2265
        triples: 25850
    """

    source_url = f"{_SOURCE}/MKG-Y"
    sha256 = {
        "train.txt": "400d4db97399dc7192adfdd3c16178b2ef55561e12f67f8846a55ed73d3f1dec",
        "valid.txt": "b057427fe171c6b2789e0def88c788809462ed8e4a9d3d93e00415818bc91b21",
        "test.txt": "d76ded01d1b542a30ecbd3deb6c70ec0e9b9e4336ca9bec92f9a8638a0185a74",
        "entities.txt": "5c58e2bf71d78eee310ace515add7e0acada665995f2550f9a16fd7ad74af18c",
        "relations.txt": "32e723b26fc9da8f49c2edb841b76bd1da3b28377ea9d5d4dbe621669cab3da3",
    }
