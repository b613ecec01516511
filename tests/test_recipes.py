"""The recipes of galaxy_batch/README.md, section "Query a catalog", run as they are written on a published catalog.

A recipe is a statement of an `sql` block, or a `python` block that assigns `result`. Its first line, a comment, is its
title. A python recipe may use the names of previous ones with the same library. CATALOG, PHOTOMETRY.csv, VERDICTS and
s3://BUCKET are replaced by paths made here. Each result is compared with brute force over all rows.
"""

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from galaxy_batch.decision_tree import GALAXY_ZOO_2
from galaxy_batch.embeddings import unpacked_embeddings
from galaxy_batch.rows import EMBEDDING, ReviewFlag
from galaxy_batch.verdicts.import_verdicts import import_verdicts
from tests.support.documents import PACKAGE_README, README, blocks, section
from tests.support.s3_server import S3
from tests.support.skies import even_positions, publish_rows, read_catalog, sky_rows, with_embeddings
from tests.support.verdict_files import import_config, page_row, write_csv
from tests.support.votes import with_votes

COUNT = 3000
SIMILAR = "DuckDB: the ten galaxies most like one, by 64 numbers of their embeddings"
CONE = SkyCoord(180 * u.deg, 0 * u.deg)


@dataclass(frozen=True)
class Sky:
    """A catalog, a photometric catalog that overlaps with it, and all rows of both."""

    catalog: Path
    photometry: Path
    rows: dict[str, list[Any]]
    measured: dict[str, list[Any]]
    embeddings: pa.ChunkedArray
    """In the order of the rows."""
    verdicts: Path
    """Folder of verdict tables."""
    said: dict[int, str]
    """Merged verdict of some objects."""

    @property
    def places(self) -> SkyCoord:
        """Positions of the rows that have one."""
        return SkyCoord([p for p in self.rows["ra"] if p is not None] * u.deg,
                        [p for p in self.rows["dec"] if p is not None] * u.deg)  # fmt: skip

    def of(self, *names: str) -> list[tuple[Any, ...]]:
        """Values of these columns, row by row."""
        return list(zip(*(self.rows[name] for name in names), strict=True))

    def in_cone(self) -> list[int]:
        """Ids within half a degree of ra 180, dec 0."""
        placed = [number for number, ra in self.of("object_id", "ra") if ra is not None]
        near = self.places.separation(CONE).deg <= 0.5
        return [number for number, inside in zip(placed, near.tolist(), strict=True) if inside]

    def joined(self) -> list[tuple[Any, ...]]:
        """Id, class and magnitude of the objects in both catalogs."""
        magnitudes = dict(zip(self.measured["objid"], self.measured["r_mag"], strict=True))
        return [(n, label, magnitudes[n]) for n, label in self.of("object_id", "predicted_class") if n in magnitudes]

    def queue(self) -> list[tuple[Any, ...]]:
        """Id and confidence of the rows that need review, least confident first."""
        waiting = [(n, c) for n, c, needed in self.of("object_id", "confidence", "needs_review") if needed]
        return sorted(waiting, key=lambda entry: (entry[1] is not None, entry[1] or 0, entry[0]))

    def classes(self) -> Counter[str | None]:
        return Counter(self.rows["predicted_class"])

    def reasons(self) -> dict[int, list[str]]:
        """Names of the flags of each flagged row."""
        flags = {n: [f.name for f in ReviewFlag if bits & f.value] for n, bits in self.of("object_id", "review_flags")}
        return {number: [str(name) for name in names] for number, names in flags.items() if names}


@pytest.fixture(scope="module")
def sky_made(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    """Half of the galaxies in a clump around ra 180, dec 0; image hashes and positions with nulls."""
    rng = np.random.default_rng(12)
    ra, dec = even_positions(COUNT, rng)
    ra[500:2000], dec[500:2000] = 180 + rng.normal(0, 0.4, 1500), rng.normal(0, 0.4, 1500)
    folder = tmp_path_factory.mktemp("recipes")
    rows = with_votes(sky_rows(COUNT, seed=12, positions=(ra, dec), without_position=0.03), GALAXY_ZOO_2)
    rows = with_embeddings(rows, 64)
    catalog = publish_rows(folder / "release=r" / "model=m", rows, 1000, 500, 2500, margin_arcsec=10, index=True)
    some = rows.filter(rows["ra"].is_valid()).take(np.arange(0, 2500, 5))
    shift = rng.normal(0, 0.3 / 3600, (2, len(some)))
    known = pd.DataFrame(
        {
            "objid": some["object_id"].to_numpy(),
            "ra": (some["ra"].to_numpy() + shift[0]) % 360,
            "dec": np.clip(some["dec"].to_numpy() + shift[1], -90, 90),
            "r_mag": rng.uniform(14, 18, len(some)).round(3),
        }
    )
    others = known.assign(objid=known["objid"] + 1, ra=(known["ra"] + 5 / 3600) % 360)  # next to them: 1237…919
    measured = pd.concat([known, others])
    measured.to_csv(folder / "photometry.csv", index=False)
    embeddings = rows.sort_by("object_id")[EMBEDDING]
    ids = rows["object_id"].to_pylist()[::10]
    said = {one: ("smooth", "featured", "artifact")[place % 3] for place, one in enumerate(ids)}
    file = write_csv(folder / "page.csv", [page_row(one, verdict) for one, verdict in said.items()])
    verdicts = Path(import_verdicts(import_config(catalog, file))["verdicts_uri"])
    return Sky(
        catalog, folder / "photometry.csv", read_catalog(catalog).to_pydict(), measured.to_dict("list"), embeddings,
        verdicts, said,
    )  # fmt: skip


def recipes() -> dict[str, tuple[str, str]]:
    """Language and text of each recipe, by its title."""
    text = section("Query a catalog", PACKAGE_README)
    result = {}
    for block in blocks("sql", text):
        for statement in filter(str.strip, block.split(";")):
            title = re.match(r"\s*-- (.*)\n", statement)
            assert title, f"a recipe without a title: {statement}"
            result[title[1]] = ("sql", statement)
    for block in blocks("python", text):
        title = re.match(r"# (.*)\n", block)
        assert title, f"a recipe without a title: {block}"
        result[title[1]] = ("python", block)
    return {title.partition(";")[0]: recipe for title, recipe in result.items()}


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.startswith(("--", "#", "import", "from"))]


def counts_by_class(result: list[tuple[Any, ...]], sky: Sky) -> None:
    assert {row[0]: row[1] for row in result} == sky.classes()
    assert len(result) == 3


def sql_counts_by_class(result: list[tuple[Any, ...]], sky: Sky) -> None:
    counts_by_class(result, sky)
    assert [row[1] for row in result] == sorted((row[1] for row in result), reverse=True)
    for label, _, mean in result:
        known = [c for name, c in sky.of("predicted_class", "confidence") if name == label and c is not None]
        assert mean == (pytest.approx(np.mean(known)) if known else None)


def sql_queue(result: list[tuple[Any, ...]], sky: Sky) -> None:
    assert [(row[0], row[2]) for row in result] == sky.queue()
    assert result[0][2] is None
    assert 100 < len(result) < COUNT


def sql_one_flag(result: list[tuple[Any, ...]], sky: Sky) -> None:
    wanted = {number for number, names in sky.reasons().items() if "REPEATED_IMAGE" in names}
    assert {row[0] for row in result} == wanted
    assert len(result) == len(wanted) > 10


def sql_names(result: list[tuple[Any, ...]], sky: Sky) -> None:
    assert dict(result) == sky.reasons()
    assert max(len(names) for names in sky.reasons().values()) >= 2


def sql_cone(result: list[tuple[Any, ...]], sky: Sky) -> None:
    assert sorted(row[0] for row in result) == sky.in_cone()
    assert len(result) > 300


def sql_join(result: list[tuple[Any, ...]], sky: Sky) -> None:
    assert sorted((row[0], row[1], row[3]) for row in result) == sorted(sky.joined())
    assert len(result) == 500


def sql_edge_on(result: list[tuple[Any, ...]], sky: Sky) -> None:
    """The expected share of all volunteers is the product along the path."""
    names = ("object_id", "disk_edge_on_asked_fraction", "disk_edge_on_yes_fraction", "needs_review")
    votes = [(n, asked * yes) for n, asked, yes, flagged in sky.of(*names) if yes is not None and not flagged]
    wanted = {number: vote for number, vote in votes if vote >= 0.5}
    assert {row[0]: row[1] for row in result} == pytest.approx(wanted)
    assert [row[1] for row in result] == sorted((row[1] for row in result), reverse=True)
    assert len(result) > 50


def sql_spirals(result: list[tuple[Any, ...]], sky: Sky) -> None:
    names = ("object_id", "has_spiral_arms_asked_fraction", "has_spiral_arms_yes_fraction",
             "spiral_arm_count_2_fraction")  # fmt: skip
    wanted = {n for n, asked, yes, two in sky.of(*names) if yes is not None and asked * yes >= 0.5 and two > 0.5}
    assert {row[0] for row in result} == wanted
    assert len(result) == len(wanted) > 0


def sql_similar(result: list[tuple[Any, ...]], sky: Sky) -> None:
    (asked,) = re.findall(r"object_id = (\d+)", recipes()[SIMILAR][1])
    values, missing = unpacked_embeddings(sky.embeddings)
    units = values / np.maximum(np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True), 1e-9)
    ids, classes = np.array(sky.rows["object_id"]), sky.rows["predicted_class"]
    cosines = np.where(missing | (ids == int(asked)), -2, units @ units[ids == int(asked)][0])
    nearest = np.argsort(-cosines)[:10].tolist()
    assert [(row[0], row[2]) for row in result] == [(ids[row], classes[row]) for row in nearest]
    assert [row[1] for row in result] == pytest.approx([1 - cosines[row] for row in nearest], abs=1e-5)


def sql_verdicts(result: list[tuple[Any, ...]], sky: Sky) -> None:
    names = ("object_id", "predicted_class", "confidence")
    wanted = {(n, c, s, sky.said[n]) for n, c, s in sky.of(*names) if n in sky.said and c not in (None, sky.said[n])}
    assert {row[:4] for row in result} == wanted
    assert all(row[4].startswith("reviewer-") for row in result)
    assert len(result) > 100


def lsdb_verdicts(result: Any, sky: Sky) -> None:
    placed = {number for number, ra in sky.of("object_id", "ra") if ra is not None}
    assert set(result["object_id"].tolist()) == placed
    known = result[result["reviewed_class"].notna()]
    assert dict(zip(known["object_id"].tolist(), known["reviewed_class"].tolist(), strict=True)) == {
        one: verdict for one, verdict in sky.said.items() if one in placed
    }


def pandas_confident(result: pd.DataFrame, sky: Sky) -> None:
    names = ("object_id", "predicted_class", "confidence", "needs_review", "image_hash", "_healpix_29")
    wanted = sorted(
        row for row in sky.of(*names)
        if row[1] == "featured" and row[2] is not None and row[2] > np.float32(0.9) and not row[3]
    )  # fmt: skip
    exact = [result[name].astype(object).where(result[name].notna(), None).tolist() for name in names]
    assert sorted(zip(*exact, strict=True)) == wanted
    assert str(result["image_hash"].dtype) == str(result["object_id"].dtype) == "Int64"
    assert len(wanted) > 100


def pandas_queue(result: pd.DataFrame, sky: Sky) -> None:
    assert result["object_id"].tolist() == [number for number, _ in sky.queue()]
    assert dict(zip(result["object_id"], result["reasons"], strict=True)) == sky.reasons()


def pandas_join(result: pd.DataFrame, sky: Sky) -> None:
    rows = result[["object_id", "predicted_class", "r_mag"]].astype(object)
    assert sorted(rows.where(rows.notna(), None).itertuples(index=False, name=None), key=str) == (
        sorted(sky.joined(), key=str)
    )


def polars_counts(result: Any, sky: Sky) -> None:
    counts_by_class(result.rows(), sky)


def astropy_cone(result: Any, sky: Sky) -> None:
    assert sorted(result["object_id"].tolist()) == sky.in_cone()
    assert result["ra"].unit == u.deg
    assert result["confidence"].description == "Calibrated probability of predicted_class"


def lsdb_cone(result: Any, sky: Sky) -> None:
    assert sorted(result["object_id"].tolist()) == sky.in_cone()


def lsdb_join(result: Any, sky: Sky) -> None:
    """The nearest photometric object of each galaxy, within the radius."""
    placed = [number for number, ra in sky.of("object_id", "ra") if ra is not None]
    measured = SkyCoord(sky.measured["ra"] * u.deg, sky.measured["dec"] * u.deg)
    nearest, apart, _ = sky.places.match_to_catalog_sky(measured)
    near = apart.arcsec <= 2
    wanted = {(placed[at], sky.measured["objid"][nearest[at]]) for at in np.flatnonzero(near)}
    assert set(zip(result["object_id"].tolist(), result["objid"].tolist(), strict=True)) == wanted
    assert len(result) == len(wanted) >= 490


def lsdb_ids(result: Any, sky: Sky) -> None:
    assert result["object_id"].tolist() == [1237648720693755918]
    assert (1237648720693755918, result["ra"].iloc[0]) in sky.of("object_id", "ra")


def lsdb_right(result: Any, sky: Sky) -> None:
    """The nearest galaxy of each photometric object, within the radius."""
    placed = [number for number, ra in sky.of("object_id", "ra") if ra is not None]
    measured = SkyCoord(sky.measured["ra"] * u.deg, sky.measured["dec"] * u.deg)
    nearest, apart, _ = measured.match_to_catalog_sky(sky.places)
    wanted = {(sky.measured["objid"][at], placed[nearest[at]]) for at in np.flatnonzero(apart.arcsec <= 2)}
    assert set(zip(result["objid"].tolist(), result["object_id"].tolist(), strict=True)) == wanted
    assert len(result) == len(wanted) >= 490


CHECKS: dict[str, Callable[[Any, Sky], None]] = {
    "DuckDB: count by class": sql_counts_by_class,
    "DuckDB: rows to review, least confident first": sql_queue,
    "DuckDB: rows with one flag, here 32 = REPEATED_IMAGE": sql_one_flag,
    "DuckDB: review_flags as names": sql_names,
    "DuckDB: a cone search, 0.5 degrees around ra 180, dec 0": sql_cone,
    "DuckDB: a join with a photometric catalog, by id": sql_join,
    "DuckDB: edge-on disks, for most of all volunteers": sql_edge_on,
    "DuckDB: spirals with two arms": sql_spirals,
    "DuckDB: what people said, where it is not what the model said": sql_verdicts,
    SIMILAR: sql_similar,
    "DuckDB on object storage: through the fsspec driver": counts_by_class,
    "pandas: confident and featured": pandas_confident,
    "pandas: rows to review, with the names of their flags": pandas_queue,
    "pandas: a join with a photometric catalog, by id": pandas_join,
    "polars: count by class": polars_counts,
    "astropy: a cone search, with units and descriptions": astropy_cone,
    "LSDB: a cone search, reads only the HEALPix pixels that the cone overlaps": lsdb_cone,
    "LSDB: a join with a photometric catalog, by position, the nearest within 2 arcseconds": lsdb_join,
    "LSDB: the catalog with what people said, null where nobody said anything": lsdb_verdicts,
    "LSDB: rows by their ids, reads only the files that have them": lsdb_ids,
    "LSDB: the nearest galaxy of each photometric object within 2 arcseconds, with the margin": lsdb_right,
}


def test_each_recipe_is_short_and_has_a_check() -> None:
    assert recipes().keys() == CHECKS.keys()
    for title, (_, text) in recipes().items():
        assert 1 <= len(lines_of(text)) <= 8, title
        assert max(map(len, text.splitlines())) <= 120, title


@contextlib.contextmanager
def library_of(title: str) -> Iterator[None]:
    """Skip a recipe whose library is not installed; run LSDB in this process."""
    name = title.partition(":")[0].partition(" ")[0].lower()
    with warnings.catch_warnings():
        if name == "lsdb":
            warnings.simplefilter("ignore")
            pytest.importorskip("lsdb", reason="lsdb is not installed: uv sync --group hats")
            import dask

            with dask.config.set(scheduler="synchronous"):
                yield
        else:
            pytest.importorskip(name)
            yield


def run(title: str, catalog: str, sky: Sky) -> Any:
    """Result of the recipe."""
    kind, text = recipes()[title]
    places = {
        "s3://BUCKET/CATALOG": catalog, "CATALOG": catalog, "PHOTOMETRY.csv": str(sky.photometry),
        "VERDICTS": str(sky.verdicts), "COLLECTION": str(sky.catalog.parent),
    }  # fmt: skip

    def placed(text: str) -> str:
        return re.sub("|".join(places), lambda match: places[match[0]], text)

    with library_of(title):
        if kind == "sql":
            return duckdb.sql(placed(text)).fetchall()
        names: dict[str, Any] = {}
        library = title.partition(":")[0]
        for other, (language, previous) in recipes().items():
            if language == "python" and other.partition(":")[0] == library:
                exec(placed(previous), names)
                if other == title:
                    break
        return names["result"]


@pytest.mark.parametrize("title", [title for title in CHECKS if "object storage" not in title])
def test_a_recipe_agrees_with_brute_force(title: str, sky_made: Sky) -> None:
    result = run(title, str(sky_made.catalog), sky_made)
    assert len(result) > 0
    CHECKS[title](result, sky_made)


@pytest.mark.parametrize("library", ["duckdb", "lsdb"])
def test_the_queries_of_the_readme_run(library: str, sky_made: Sky, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(library)
    (query,) = (block for block in blocks("python", README) if f"import {library}" in block)
    names: dict[str, Any] = {}
    with library_of(f"{library}: "):
        exec(query.replace("CATALOG", str(sky_made.catalog)), names)
    assert "featured" in capsys.readouterr().out if library == "duckdb" else len(names["cone"]) > 0


def test_the_recipe_for_object_storage(sky_made: Sky, s3: S3) -> None:
    (title,) = (title for title in CHECKS if "object storage" in title)
    for path in sky_made.catalog.rglob("*.parquet"):
        s3.put(f"galaxies/catalog/{path.relative_to(sky_made.catalog)}", path.read_bytes())
    try:
        CHECKS[title](run(title, f"{s3.uri}/galaxies/catalog", sky_made), sky_made)
        assert s3.proxy.asked(".parquet")
    finally:
        duckdb.unregister_filesystem("s3")


def test_the_catalog_has_values_that_floats_cannot_hold(sky_made: Sky) -> None:
    """Integer columns with nulls, and ids that change when converted to float."""
    assert None in sky_made.rows["image_hash"]
    assert all(number != int(float(number)) for number in sky_made.rows["object_id"][:10:3])
