"""Tables that are damaged: whatever becomes of their bytes, they are read, or the error names them."""

from __future__ import annotations

import pathlib

import numpy as np
import pandas as pd
import pytest

from pykeen_dans.utils.tables import read_table, write_table


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.tsv.xz", "x.txt.bz2", "x.parquet"])
def test_damaged_at_random(name: str, tmp_path: pathlib.Path) -> None:
    path, random = tmp_path / name, np.random.default_rng(0)
    write_table("table", pd.DataFrame({"head": ["a", "NA", "ä"], "tail": ["b", "", 'c"']}), path)
    assert read_table("table", path)["head"].to_list() == ["a", "NA", "ä"]
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    num_errors = 0
    for _ in range(100):
        damaged = content.copy()
        positions = random.integers(len(damaged), size=random.integers(1, 8))
        damaged[positions] = random.integers(256, size=len(positions))
        path.write_bytes(damaged[: random.integers(1, len(damaged) + 1)].tobytes())
        try:
            read_table("table", path)
        except ValueError as error:
            num_errors += 1
            assert str(error).startswith(f"table={str(path)!r} cannot be read as ")
    assert num_errors > 10
