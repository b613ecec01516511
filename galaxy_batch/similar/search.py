"""The nearest rows of a catalog by the cosine distance of their embeddings, read one row group at a time.

The distance is 1 - cos of the angle between two embeddings, seen from the mean of the training galaxies: 0 for the same
direction, 1 for a right angle, 2 at most. The direction says in what a galaxy differs from the average one, the length
how much: on real galaxies, neighbours by angle share their morphology more often than those by Euclidean distance.

A row group has 65,536 rows: with 64 numbers each, 8 MB in float16 and 16 MB in float32. A few files are read at a time,
so memory does not grow with the catalog.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.catalog.embedding_files import EMBEDDINGS
from galaxy_batch.catalog.files import RowFile
from galaxy_batch.catalog.read_files import files_in_turn, read_row_group, row_groups
from galaxy_batch.embeddings import embedding_values
from galaxy_batch.release_page.sampling import RowLocation

__all__ = ["Nearest", "find_embeddings", "nearest_rows"]

_QUERIES_AT_ONCE = 64
_ROUNDING = 1e-5  # of a distance from the matrix product, and more

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[Any]


@dataclass
class Nearest:
    """The nearest rows of one query so far, the nearest first."""

    distances: Array
    """``(n,)``, n at most the number wanted."""
    places: npt.NDArray[np.int64]
    """``(n, 3)``: a `RowLocation` each."""

    def add(self, distances: Array, places: npt.NDArray[np.int64], wanted: int) -> None:
        """Consider further rows; of equally distant ones, the first in the catalog are kept."""
        all_distances = np.concatenate([self.distances, distances])
        all_places = np.concatenate([self.places, places])
        order = np.lexsort((*all_places.T[::-1], all_distances))[:wanted]
        self.distances, self.places = all_distances[order], all_places[order]

    def bound(self, wanted: int) -> float:
        """The distance that a further row must not exceed."""
        return float(self.distances[-1]) if len(self.distances) == wanted else np.inf


def nearest_rows(catalog_uri: str, files: Sequence[RowFile], queries: Array, wanted: int) -> list[Nearest]:
    """For each query, the nearest rows that have an embedding: fewer than `wanted` where there are no more.

    Args:
        catalog_uri: the catalog's folder.
        files: its files of embeddings, in the order of its files of rows.
        queries: embeddings ``(Q, size)``.
        wanted: number of rows.

    Raises:
        InputError: a file is missing or damaged.
    """
    found = [_nothing() for _ in queries]

    def search(number: int, file: RowFile) -> list[Nearest]:
        of_file = [_nothing() for _ in queries]
        for group, rows in row_groups(catalog_uri, file, [EMBEDDINGS]):
            values, missing = embedding_values(rows[EMBEDDINGS])
            _search_group(of_file, queries, values[~missing].astype(np.float32), np.flatnonzero(~missing),
                          (number, group), wanted)  # fmt: skip
        return of_file

    for of_file in files_in_turn(files, "searching", search):
        for nearest, other in zip(found, of_file, strict=True):
            nearest.add(other.distances, other.places, wanted)
    return found


def find_embeddings(
    catalog_uri: str, files: Sequence[RowFile], ids: pa.Array
) -> dict[int | str, tuple[RowLocation, Array | None]]:
    """Where the rows with these ids are, and their embeddings ``(size,)``, None without an image; by id.

    Raises:
        InputError: a file is missing or damaged.
    """

    def find(number: int, file: RowFile) -> dict[int | str, tuple[RowLocation, Array | None]]:
        found: dict[int | str, tuple[RowLocation, Array | None]] = {}
        for group, rows in row_groups(catalog_uri, file, ["object_id"]):
            here = np.flatnonzero(pc.is_in(rows["object_id"], value_set=ids).to_numpy())
            if len(here):
                embeddings = read_row_group(catalog_uri, file, group, [EMBEDDINGS])
                values, missing = embedding_values(embeddings[EMBEDDINGS])
                for row in here.tolist():
                    embedding = None if missing[row] else values[row].astype(np.float32)
                    found[rows["object_id"][row].as_py()] = RowLocation(number, group, row), embedding
        return found

    found: dict[int | str, tuple[RowLocation, Array | None]] = {}
    for of_file in files_in_turn(files, "looking for the galaxies", find):
        found |= of_file
        if len(found) == len(ids):
            break
    return found


def _search_group(
    found: list[Nearest],
    queries: Array,
    values: Array,
    rows: npt.NDArray[np.int64],
    where: tuple[int, int],
    wanted: int,
) -> None:
    """Compare the rows of one row group with all queries.

    The matrix product in float32 finds the few rows that may be among the nearest, whose distances are computed again:
    rounding must not decide which of two very similar galaxies is nearer.
    """
    directions = _directions(values)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        some = _directions(queries[start : start + _QUERIES_AT_ONCE])
        for query, distances, nearest in zip(some, 1 - some @ directions.T, found[start:], strict=False):
            limit = nearest.bound(wanted)
            if np.isinf(limit) and len(distances) > wanted:
                limit = float(np.partition(distances, wanted - 1)[wanted - 1])
            near = np.flatnonzero(distances <= limit + _ROUNDING)
            if len(near):
                exact = 1 - _directions(values[near].astype(np.float64)) @ _directions(query.astype(np.float64))
                places = np.stack([np.full(len(near), where[0]), np.full(len(near), where[1]), rows[near]], axis=1)
                nearest.add(np.maximum(exact, 0).astype(np.float32), places, wanted)


def _directions(vectors: Floats) -> Floats:
    """The vectors ``(…, size)`` divided by their lengths; those of length 0 as they are."""
    lengths = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]
    directions: Floats = vectors / np.where(lengths == 0, 1, lengths)
    return directions


def _nothing() -> Nearest:
    return Nearest(np.empty(0, np.float32), np.empty((0, 3), np.int64))
