"""The page of promises names tests that there are, and traps of PyKEEN that it still has."""

from __future__ import annotations

import pathlib
import re

import pykeen.datasets.utils
import pytest
import torch
from pykeen.datasets import get_dataset
from pykeen.triples import TriplesFactory
from pykeen.triples.instances import BatchedSLCWAInstances

from pykeen_dans.datasets import Family

from .utils import training_of

TESTS = pathlib.Path(__file__).parent
PAGE = TESTS.parent / "docs" / "source" / "reliability.rst"


def test_each_promise_has_its_test() -> None:
    named = set(re.findall(r"``(test_\w+\.py)::(test_\w+)``", PAGE.read_text(encoding="utf-8")))
    assert len(named) > 30
    missing = [
        f"{file}::{name}"
        for file, name in sorted(named)
        if not re.search(rf"^def {name}\(", TESTS.joinpath(file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    ]
    assert not missing
    # no row without one
    rows = re.split(r"^    \* - ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [row for row in rows[1:] if "::test_" not in row and "\n      - test" not in row] == []


@pytest.mark.parametrize(("num_workers", "expected"), [(0, 1592), (2, 796), (4, 398)])
def test_workers_see_a_part_of_the_triples(num_workers: int, expected: int) -> None:
    """Those of PyKEEN's loop."""
    instances = BatchedSLCWAInstances.from_triples_factory(training_of("nations"), batch_size=50, drop_last=False)
    loader = torch.utils.data.DataLoader(instances, num_workers=num_workers, batch_size=None)
    seen = torch.cat([batch["positives"] for batch in loader])
    assert len(seen) == 1592
    assert len(seen.unique(dim=0)) == expected


def test_the_cache_of_data_sets_is_not_atomic(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interruption, a data set is without its validation triples, until it is made anew."""
    monkeypatch.setattr(pykeen.datasets.utils, "PYKEEN_DATASETS", tmp_path)
    for name in Family.source_names:
        tmp_path.joinpath(name).write_text("a\tlikes\tb\nb\tlikes\tc\n" if name != "valid.txt" else "a\tlikes\tb\n")
    family = dict(cache_root=str(tmp_path / "family"), source_url=tmp_path.as_uri())
    write = TriplesFactory.to_path_binary

    def interrupted(self: TriplesFactory, path: pathlib.Path) -> pathlib.Path:
        if path.name == "validation":
            raise KeyboardInterrupt
        return write(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(TriplesFactory, "to_path_binary", interrupted)
        for name, kwargs in (("nations", {}), ("family", family)):
            with pytest.raises(KeyboardInterrupt):
                get_dataset(dataset=name, dataset_kwargs=kwargs)
    assert get_dataset(dataset="nations").validation is None
    assert get_dataset(dataset="nations", dataset_kwargs=dict(force=True)).validation.num_triples == 199
    assert get_dataset(dataset="nations").validation.num_triples == 199
    # data sets of this package do not begin without
    with pytest.raises(ValueError, match=r"copy of Family in .* is not whole.*force=True"):
        get_dataset(dataset="family", dataset_kwargs=family)
    for again in (dict(force=True), {}):
        assert get_dataset(dataset="family", dataset_kwargs=family | again).validation.num_triples == 1
