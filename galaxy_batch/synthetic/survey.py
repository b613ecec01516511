"""A simulated survey: rendered galaxies, volunteers' votes, sky positions, and defective cutouts on request.

Used by the demo, tests and benchmarks. Each galaxy is independent of the others, so that slices of a survey can be
written in parallel (``write_images``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
from astropy.coordinates import offset_by
from PIL import Image, ImageDraw

from galaxy_batch.synthetic.galaxies import draw_galaxy
from galaxy_batch.synthetic.rendering import CUTOUT_SIDE_PX, jpeg, render

__all__ = [
    "DEFECTS", "ONE_OF_EACH_DEFECT", "SurveyFiles", "make_objects", "object_ids", "place_defects", "write_images",
    "write_survey", "write_tables",
]  # fmt: skip

Array = npt.NDArray[Any]

_ROW = 2  # random stream of votes and positions; galaxies and rendering use others


def object_ids(indices: npt.ArrayLike, seed: int) -> npt.NDArray[np.int64]:
    """The 64-bit ids of the galaxies ``indices`` of survey ``seed``: unique in a survey, all above 2^53.

    Bits as SDSS lays out objID since DR8: 59-62 sky version, 48-58 rerun, 32-47 run, 29-31 camera column, 16-27 field,
    0-15 object within the field.
    """
    runs, columns, fields, objects = 7200, 6, 800, 300
    places = runs * columns * fields * objects
    # Steps coprime to the number of places reach each place once: ids look random and never collide.
    place = (np.asarray(indices, np.int64) * 618_033_989 + np.random.default_rng(seed).integers(places)) % places
    place, run = np.divmod(place, runs)
    place, column = np.divmod(place, columns)
    item, field = np.divmod(place, fields)
    sdss = (2 << 59) | (301 << 48)
    return np.asarray(sdss | (run + 752) << 32 | (column + 1) << 29 | (field + 11) << 16 | (item + 1), np.int64)


def _positions(uniform: Array) -> tuple[Array, Array]:
    """ICRS positions in degrees, uniform over a footprint like SDSS's, from three uniform numbers each, ``(N, 3)``.

    The footprint is an ellipse on the northern galactic cap (York et al. 2000, AJ 120, 1579) and, for one in 16, Stripe
    82. Sampling is uniform in Lambert's equal-area projection, hence on the sky.
    """
    radius, angle = np.sqrt(uniform[:, 0]), 2 * np.pi * uniform[:, 1]
    east = radius * np.cos(angle) * 2 * np.sin(np.radians(60 / 2))
    north = radius * np.sin(angle) * 2 * np.sin(np.radians(36 / 2))
    separation = 2 * np.arcsin(np.hypot(east, north) / 2)
    lon, lat = offset_by(np.radians(185.0), np.radians(32.5), np.arctan2(east, north), separation)
    stripe = uniform[:, 2] < 1 / 16
    ra = np.where(stripe, (-50.0 + 110.0 * uniform[:, 0]) % 360, lon.to_value("deg") % 360)
    return ra, np.where(stripe, -1.25 + 2.5 * uniform[:, 1], lat.to_value("deg"))


def make_objects(galaxies: int, seed: int, without_position: int = 0) -> pa.Table:
    """Table of the survey's objects with their true classes.

    Columns: ``object_id`` int64; ``ra``, ``dec`` in degrees (ICRS), null for ``without_position`` of them, at regular
    intervals; the vote fractions ``Class1.1`` (smooth), ``Class1.2`` (features or disk) and ``Class1.3`` (star or
    artifact), which sum to 1; ``true_class`` and ``kind``.

    About 42 volunteers vote on each galaxy, independently, with its ``featured_probability``.
    """
    drawn, votes, uniform = [], np.empty((galaxies, 3)), np.empty((galaxies, 3))
    for index in range(galaxies):
        drawn.append(draw_galaxy(index, seed))
        rng = np.random.default_rng((seed, index, _ROW))
        uniform[index] = rng.random(3)
        featured, artifact = drawn[-1].featured_probability, rng.beta(1.0, 40.0)
        chances = [(1 - artifact) * (1 - featured), (1 - artifact) * featured, artifact]
        counts = rng.multinomial(max(20, rng.poisson(42)), chances)
        votes[index] = counts / counts.sum()
    indices = np.arange(galaxies)
    lost = (indices + 1) * without_position // max(galaxies, 1) > indices * without_position // max(galaxies, 1)
    ra, dec = _positions(uniform)
    columns = {"object_id": object_ids(indices, seed), "ra": pa.array(ra, mask=lost), "dec": pa.array(dec, mask=lost)}
    columns |= {f"Class1.{number + 1}": votes[:, number] for number in range(3)}
    kinds = {"true_class": [galaxy.true_class for galaxy in drawn], "kind": [galaxy.kind for galaxy in drawn]}
    return pa.table(columns | {name: pa.array(values, pa.string()) for name, values in kinds.items()})


def _message(*lines: str, grey: int = 0) -> bytes:
    image = Image.new("RGB", (CUTOUT_SIDE_PX, CUTOUT_SIDE_PX), (grey, grey, grey))
    ImageDraw.Draw(image).multiline_text((20, 190), "\n".join(lines), fill=(235, 235, 235))
    return jpeg(image)


DEFECTS: Mapping[str, Callable[[bytes], bytes | None]] = MappingProxyType({
    "truncated": lambda jpeg: jpeg[: len(jpeg) * 3 // 5],
    "empty": lambda _: b"",
    "text": lambda _: b"<html><body><h1>503</h1>Cutouts are resting. Try again later.</body></html>\n",
    "black": lambda _: jpeg(Image.new("RGB", (CUTOUT_SIDE_PX, CUTOUT_SIDE_PX))),
    "server_message": lambda _: _message("ERROR: no imaging covers this position.", "Are ra and dec in degrees?"),
    "missing": lambda _: None,
    "placeholder": lambda _: _message("PREVIEW NOT YET AVAILABLE", grey=70),
})  # fmt: skip
"""Defects of cutouts: name -> function from the good JPEG to the bytes of the defective file, None for no file."""

ONE_OF_EACH_DEFECT: Mapping[str, int] = MappingProxyType(dict.fromkeys(DEFECTS, 1) | {"placeholder": 6})
"""Counts of defects; a placeholder is recognised only if several objects share it."""


def place_defects(galaxies: int, defects: Mapping[str, int]) -> dict[int, str]:
    """Assign defects to the last galaxies of a survey: index -> name, in the order of ``defects``.

    Raises ``ValueError`` for a defect that does not exist, a negative count, or more defects than galaxies.
    """
    names = [name for name, count in defects.items() for _ in range(count)]
    for name, count in defects.items():
        if name not in DEFECTS or count < 0:
            raise ValueError(f"defects: {name!r}: {count}; expected a count of 0 or more of {', '.join(DEFECTS)}")
    if len(names) > galaxies:
        raise ValueError(f"defects: {len(names)} defects for {galaxies} galaxies; ask for fewer")
    return dict(enumerate(names, start=galaxies - len(names)))


@dataclass(frozen=True)
class SurveyFiles:
    """Files and defects of a written survey."""

    images: Path
    """Folder of ``<object_id>.jpg``."""
    manifest: Path
    """CSV: ``object_id``, ``ra``, ``dec``; unknown positions are blank."""
    votes: Path
    """CSV: ``GalaxyID``, ``Class1.1``, ``Class1.2``, ``Class1.3``, as in the Kaggle Galaxy Challenge."""
    defects: dict[int, str]
    """Object id -> name of its defect."""


def write_tables(
    folder: str | Path, galaxies: int, seed: int, *, defects: Mapping[str, int] | None = None, without_position: int = 0
) -> SurveyFiles:
    """Write ``objects.csv`` and ``votes.csv``, without images. Raises as ``place_defects``."""
    bad = {int(object_ids(index, seed)): name for index, name in place_defects(galaxies, defects or {}).items()}
    files = SurveyFiles(Path(folder, "images"), Path(folder, "objects.csv"), Path(folder, "votes.csv"), bad)
    files.images.mkdir(parents=True, exist_ok=True)
    objects = make_objects(galaxies, seed, without_position)
    plain = pacsv.WriteOptions(quoting_style="none")
    pacsv.write_csv(objects.select(["object_id", "ra", "dec"]), files.manifest, plain)
    votes = objects.rename_columns({"object_id": "GalaxyID"}).select(["GalaxyID", "Class1.1", "Class1.2", "Class1.3"])
    pacsv.write_csv(votes, files.votes, plain)
    return files


def write_images(
    folder: str | Path, galaxies: int, seed: int, *, defects: Mapping[str, int] | None = None, start: int = 0,
    stop: int | None = None,
) -> None:  # fmt: skip
    """Write ``images/<object_id>.jpg`` of galaxies ``start`` to ``stop`` (exclusive); slices may run in parallel.

    Raises as ``place_defects``.
    """
    bad = place_defects(galaxies, defects or {})
    images = Path(folder, "images")
    images.mkdir(parents=True, exist_ok=True)
    for index in range(galaxies)[start:stop]:
        content: bytes | None = render(index, seed)
        if index in bad:
            content = DEFECTS[bad[index]](content or b"")
        if content is not None:
            (images / f"{int(object_ids(index, seed))}.jpg").write_bytes(content)


def write_survey(
    folder: str | Path, galaxies: int, seed: int, *, defects: Mapping[str, int] | None = None, without_position: int = 0
) -> SurveyFiles:
    """Write tables and images of a survey under the local ``folder``, with ``defects`` in the last objects."""
    files = write_tables(folder, galaxies, seed, defects=defects, without_position=without_position)
    write_images(folder, galaxies, seed, defects=defects)
    return files
