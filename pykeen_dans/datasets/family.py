"""The Family data set."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from itertools import chain

from docdata import parse_docdata

from .base import DecodedDataset, github_raw, read_lines

__all__ = [
    "Family",
]


@parse_docdata
class Family(DecodedDataset):
    """The Family data set of relatives, in the split that rule learners use.

    The published split has its training triples in two files, ``facts.txt`` and ``train.txt``: the rules are learned on
    the second, and applied to the first. There is no such distinction for embedding models, so the training triples are
    those of both files.

    ---
    name: Family
    citation:
        author: Yang
        year: 2017
        link: https://arxiv.org/abs/1702.08367
        github: LARS-research/AdaProp
    statistics:
        entities: 2992
        relations: 12
        training: 23483
        testing: 2817
        validation: 2026
        triples: 28326
    """

    source_url = github_raw(
        "LARS-research/AdaProp", "159715c9950e67cea432859f9381cea617348a16", "transductive/data/family"
    )
    source_names = ("facts.txt", "train.txt", "valid.txt", "test.txt")
    sha256 = {
        "train.txt": "768bef275a5f4c30d29ee0180dba1bd8329e7f29a981edd49a4cf40b78e7e322",
        "valid.txt": "b27c96db987d829aeb7ab8025d8b26cb469d9a8b9881fe84beeab96f9c9c7d30",
        "test.txt": "42cc9b400a3bfbd8908c81a14a073fe3e0c73e51b8ed05d2587255c11d257eb8",
    }

    # docstr-coverage: inherited
    def _decode(self, directory: pathlib.Path) -> Iterable[tuple[str, Iterable[str]]]:
        facts, train, valid, test = (self._read_triples(directory.joinpath(name)) for name in self.source_names)
        yield "train.txt", chain(facts, train)
        yield "valid.txt", valid
        yield "test.txt", test

    @staticmethod
    def _read_triples(path: pathlib.Path) -> Iterable[str]:
        """Read triples of labels, with any white space between them."""
        for number, line in enumerate(read_lines(path), start=1):
            if len(labels := line.split()) != 3:
                raise ValueError(f"Line {number} of {path.name} has {len(labels)} columns instead of 3: {line!r}")
            yield "\t".join(labels)
