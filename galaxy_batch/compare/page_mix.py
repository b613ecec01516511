"""The class mix of two catalogs as a section of the comparison's page: of all rows, by bins, across the sky."""

import math
from collections.abc import Sequence

import numpy as np

from galaxy_batch.compare.class_mix import Mix
from galaxy_batch.compare.figures import mix_by_bins, sky_map
from galaxy_batch.compare.result import Comparison
from galaxy_batch.report.html import Album, number, paragraph, percent, section, table

__all__ = ["mix_section", "points"]


def mix_section(found: Comparison, album: Album) -> str:
    """Shares of the classes in both catalogs, and how they changed; its figures go into the album."""
    parts = [section("All rows", _mix_table(found.mix, found.classes))]
    for mix in found.bin_mixes:
        parts.append(
            section(
                f"By {mix.of}",
                album.figure(
                    f"mix_by_{mix.of}",
                    mix_by_bins(mix, {found.classes[place]: place for place in _shown(found.classes)}),
                    f"Bins with as many old rows each; 95% intervals. {mix.left_out:,} rows have no {mix.of}.",
                )
                + _mix_table(mix, found.classes)
                if mix.groups
                else paragraph(f"No old row has a {mix.of}."),
            )
        )
    parts.append(section("Across the sky", _sky(found, album)))
    return "".join(parts)


def points(share: float) -> str:
    """A difference of shares in percentage points."""
    difference = round(100 * share, 1) if not math.isnan(share) else math.nan
    return "–" if math.isnan(difference) else f"{difference:+.1f}".replace("-", "−") if difference else "0.0"


def _sky(found: Comparison, album: Album) -> str:
    mix = found.sky
    if not mix.groups:
        return paragraph("No cell of the sky holds enough rows of both catalogs.")
    shown = _shown(found.classes)
    largest = max(shown, key=lambda place: float(np.abs(mix.difference[:, place]).max()))
    scatter = float(((mix.difference - found.mix.difference) / mix.error)[:, largest].std())
    order = np.argsort(-np.abs(mix.difference[:, largest]) / mix.error[:, largest])[:8]
    return (
        paragraph(
            f"{len(mix.groups):,} HEALPix cells of order {mix.order} hold enough rows of both catalogs; "
            f"{mix.left_out:,} rows with a class lie elsewhere, or nowhere.",
            f"From cell to cell the change of “{found.classes[largest]}” scatters by {scatter:.2f} of its standard "
            "error: 1 is what chance alone does, and less where hardly any object changed."
            if len(mix.groups) > 1
            else "",
        )
        + album.figure(
            "sky",
            sky_map(mix, largest, found.classes[largest]),
            "The class whose share changed most in any cell; cells with too few rows are grey. Equal areas on the sky "
            "are equal here; east is to the left.",
        )
        + _mix_table(mix, found.classes, order.tolist(), "The cells whose change is least like chance.")
    )


def _mix_table(mix: Mix, classes: Sequence[str], groups: Sequence[int] | None = None, caption: str = "") -> str:
    shown = _shown(classes)
    header = ["" if mix.of == "all" else "cell" if mix.order is not None else mix.of, "old rows", "new rows"]
    for place in shown:
        header += [f"{classes[place]}, old", "new", "change ± s.e. (points)"]
    rows = []
    for group in range(len(mix.groups)) if groups is None else groups:
        name = mix.groups[group].replace(" ", "\N{NO-BREAK SPACE}")
        row = [name, f"{mix.old_rows[group]:,}", f"{mix.new_rows[group]:,}"]
        for place in shown:
            row += [
                percent(float(mix.old_share[group, place])),
                percent(float(mix.new_share[group, place])),
                f"{points(float(mix.difference[group, place]))} ± {number(100 * float(mix.error[group, place]), 1)}",
            ]
        rows.append(row)
    return table(header, rows, caption)


def _shown(classes: Sequence[str]) -> list[int]:
    """The classes whose shares are shown: of two only one, since the other's change is the same, the other way."""
    return list(range(1 if len(classes) == 2 else 0, len(classes)))
