"""What was in the banks at the end of trainings: how hard each band was, and how much of it was true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .tables import groups, label, table, with_defaults

__all__ = [
    "bands_table",
]


def bands_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Describe the bands of all trainings that tell of them, in means over seeds.

    :param rows: rows of the quality matrix

    :returns: reST, empty where no row tells
    """
    frame = with_defaults(rows)
    if "bands" not in frame:
        return ""
    lines = []
    found = (
        (title, variant, part)
        for title, group in groups(frame.dropna(subset="bands"))
        for variant, part in group.groupby("variant", sort=False)
    )
    for title, variant, group in found:
        # the last bank of each seed, band by band, the easiest first
        described = pd.concat([pd.DataFrame(bands) for bands in group["bands"]]).groupby(level=0).mean()
        for band, values in described.iterrows():
            lines.append(
                (
                    title if band == 0 else "",
                    label(variant) if band == 0 else "",
                    len(group) if band == 0 else "",
                    band,
                    f"{values['percentile']:.3f}",
                    "0" if values["known"] == 0 else f"{100 * values['known']:.3f} %",
                    f"{100 * values['held_out']:.2f} %",
                )
            )
    headers = ["recipe", "negatives", "seeds", "band", "median percentile", "true in training", "true in valid + test"]
    return table(headers, lines) if lines else ""
