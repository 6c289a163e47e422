"""The NELL-995 data set."""

from __future__ import annotations

from docdata import parse_docdata

from .base import OpenKEDataset, github_raw

__all__ = [
    "NELL995",
]


@parse_docdata
class NELL995(OpenKEDataset):
    """The NELL-995 data set, in the split of KBGAT with 200 relations.

    Of the 75,492 entities in the published files, 1,060 occur in validation and test triples only. As usual, PyKEEN
    drops the triples with these entities: 441 of the 543 validation triples remain, and 2,833 of the 3,992 test
    triples. There are other splits by the same name, e.g. one with 2,818 test triples; results on different splits are
    not comparable.

    ---
    name: NELL-995
    citation:
        author: Xiong
        year: 2017
        link: https://arxiv.org/abs/1707.06690
        github: thunlp/OpenKE
    statistics:
        entities: 74432
        relations: 200
        training: 149678
        testing: 2833
        validation: 441
        triples: 152952
    """

    source_url = github_raw("thunlp/OpenKE", "64c4ec8157abfc39112772e9825a349091da45f1", "benchmarks/NELL-995")
    sha256 = {
        "train.txt": "826606112803d19cef310b45a908e6793d89c0ce99fed60d71a9c2095b71d8f6",
        "valid.txt": "9c02548083036fd7ccc4ccec649a633fc3a58c544a0d28496cd751c35fef23a8",
        "test.txt": "09984fa351609e449a4bef5dc45d8c358eb12e4e6aae4e11b9af9ba19b96e0ef",
    }
