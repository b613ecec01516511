"""Verification names damage of every kind, also where all checksums and counts agree with it."""

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.catalog.votable import CONTENT_KEY, described
from galaxy_batch.errors import InputError
from galaxy_batch.ids import id_hashes, ids_checksum
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.sky.healpix import Tile
from tests.support.jobs import CallJob
from tests.support.skies import publish_rows, sky_rows
from tests.support.votes import FEW_QUESTIONS, with_votes

ROWS = 600


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = publish_rows(tmp_path_factory.mktemp("sky"), sky_rows(ROWS, seed=5, without_position=0.05), 100, 90, 250)
    assert verify_catalog(str(folder)) == []
    return folder


@pytest.fixture
def catalog(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "catalog"))


def files(catalog: Path) -> list[Path]:
    return sorted(catalog.glob("dataset/**/*.parquet"))


def first(catalog: Path) -> Path:
    return files(catalog)[0]


def nowhere(catalog: Path) -> Path:
    return catalog / "without_position" / "part-000000.parquet"


def manifest_of(catalog: Path) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((catalog / "manifest.json").read_text())
    return entries


def edit(catalog: Path, **changes: Any) -> None:
    (catalog / "manifest.json").write_text(json.dumps({**manifest_of(catalog), **changes}))


def alter(catalog: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = manifest_of(catalog)
    change(manifest)
    (catalog / "manifest.json").write_text(json.dumps(manifest))


def rewrite(catalog: Path, change: Callable[[pa.Table], pa.Table], file: Path | None = None) -> None:
    """Change the rows of a file, and then all checksums, counts and HATS files to agree with them."""
    file = file or first(catalog)
    pq.write_table(change(pq.read_table(file, partitioning=None)), file)
    mend(catalog)


def mend(catalog: Path) -> None:
    """Make sizes, checksums, counts and the HATS files agree with the files of rows."""
    manifest = manifest_of(catalog)
    tables, footers, tiles = {}, {}, {}
    for file in [*files(catalog), *sorted(catalog.glob("without_position/*"))]:
        path = str(file.relative_to(catalog))
        tables[path], footers[path] = pq.read_table(file, partitioning=None), io.BytesIO()
        pq.read_metadata(file).write_metadata_file(footers[path])
        pixel = hats.pixel_of(path)
        if pixel:
            tiles[path] = Tile(*pixel, len(tables[path]))
    on_sky = sorted(tiles.values(), key=lambda tile: tile.first_key)
    common = pq.read_schema(catalog / hats.COMMON_METADATA)
    try:
        sky = np.concatenate([tables[path]["_healpix_29"].drop_null().to_numpy() >> 46 for path in tiles])
        count_all(manifest, list(tables.values()))
        contents = {
            hats.PARTITIONS: hats.partition_info(on_sky),
            hats.SKYMAP: hats.skymap(np.bincount(sky, minlength=12 << 12)),
            hats.METADATA: hats.dataset_metadata(common, [(path, footers[path].getvalue()) for path in tiles]),
        }
    except (KeyError, pa.ArrowException, RuntimeError):  # another schema: these files cannot be made
        contents = {}
    size = sum((catalog / path).stat().st_size for path in tables)
    entries = hats.read_properties((catalog / hats.PROPERTIES).read_bytes())
    entries |= {k: str(v) for k, v in hats.describe("made-up", on_sky, manifest["max_rows"], size).items()}
    contents[hats.PROPERTIES] = hats.properties(entries)
    for path, content in contents.items():
        (catalog / path).write_bytes(content)
    manifest["files"] = [{**checked(catalog, path), "rows": len(table)} for path, table in tables.items()]
    manifest["metadata_files"] = [checked(catalog, entry["path"]) for entry in manifest["metadata_files"]]
    (catalog / "manifest.json").write_text(json.dumps(manifest))


def checked(catalog: Path, path: str) -> dict[str, Any]:
    content = (catalog / path).read_bytes()
    return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def count_all(manifest: dict[str, Any], tables: list[pa.Table]) -> None:
    rows = pa.concat_tables(table.replace_schema_metadata(None) for table in tables)
    flags = rows["review_flags"].fill_null(0).to_numpy()
    manifest["rows"] = manifest["manifest_rows"] = len(rows)
    manifest["failed"] = rows["predicted_class"].null_count
    manifest["flagged"] = int((flags != 0).sum())
    manifest["without_position"] = rows["_healpix_29"].null_count
    manifest["status_counts"] = dict(Counter(rows["status"].to_pylist()))
    manifest["class_counts"] = dict(Counter(rows["predicted_class"].drop_null().to_pylist()))
    manifest["flag_counts"] = {flag.name: int(((flags & flag) != 0).sum()) for flag in ReviewFlag}
    manifest["ids_checksum"] = f"{ids_checksum(id_hashes(rows['object_id'].drop_null())):016x}"


def mend_entry(catalog: Path, path: str, content: bytes) -> None:
    (catalog / path).write_bytes(content)

    def change(manifest: dict[str, Any]) -> None:
        for listed in ("files", "metadata_files"):
            manifest[listed] = [e | checked(catalog, path) if e["path"] == path else e for e in manifest[listed]]

    alter(catalog, change)


def put(table: pa.Table, name: str, values: Any) -> pa.Table:
    if isinstance(values, list):
        values = pa.array(values, table.schema.field(name).type)
    return table.set_column(table.column_names.index(name), table.schema.field(name), values)


def put_one(table: pa.Table, name: str, value: Any, row: int = 0) -> pa.Table:
    values = table[name].to_pylist()
    values[row] = value
    return put(table, name, values)


def raise_flag(table: pa.Table, flag: ReviewFlag, row: int) -> pa.Table:
    flags = table["review_flags"].to_pylist()[row] ^ int(flag)
    return put_one(put_one(table, "review_flags", flags, row), "needs_review", flags != 0, row)


def row_with(table: pa.Table, flag: ReviewFlag) -> int:
    return int(np.flatnonzero(table["review_flags"].to_numpy() & flag)[0])


def file_with(catalog: Path, flag: ReviewFlag) -> Path:
    def has(file: Path) -> bool:
        return bool((pq.read_table(file, partitioning=None)["review_flags"].to_numpy() & flag).any())

    return next(file for file in files(catalog) if has(file))


def plain_row(table: pa.Table) -> int:
    return int(np.flatnonzero(table["review_flags"].to_numpy() == 0)[0])


def flip_byte(catalog: Path) -> None:
    content = bytearray(first(catalog).read_bytes())
    content[100] ^= 1
    first(catalog).write_bytes(content)


def garble(catalog: Path, start: int) -> None:
    """Zero some bytes of the data, and mend the checksum."""
    content = bytearray(first(catalog).read_bytes())
    content[start : start + 400] = bytes(400)
    mend_entry(catalog, str(first(catalog).relative_to(catalog)), bytes(content))


def move_rows(catalog: Path) -> None:
    one, other = files(catalog)[:2]
    table = pq.read_table(one, partitioning=None)
    rewrite(catalog, lambda t: pa.concat_tables([t, table.slice(0, 3)]).sort_by("_healpix_29"), other)
    rewrite(catalog, lambda t: t.slice(3), one)


def move_nowhere(catalog: Path) -> None:
    table = pq.read_table(first(catalog), partitioning=None)
    rewrite(catalog, lambda t: pa.concat_tables([t, table.slice(0, 1)]).sort_by("object_id"), nowhere(catalog))
    rewrite(catalog, lambda t: t.slice(1))


def drop_file(catalog: Path) -> None:
    path = str(first(catalog).relative_to(catalog))
    first(catalog).unlink()
    alter(catalog, lambda m: m.update(files=[entry for entry in m["files"] if entry["path"] != path]))


def wrong_pixel(catalog: Path) -> None:
    order, pixel = hats.pixel_of(str(first(catalog).relative_to(catalog))) or (0, 0)
    first(catalog).rename(first(catalog).with_name(f"Npix={pixel + 5}.parquet"))
    assert order == 0
    mend(catalog)


def nested_pixel(catalog: Path) -> None:
    """A second file for a quarter of another's pixel."""
    table = pq.read_table(first(catalog), partitioning=None)
    _, pixel = hats.pixel_of(str(first(catalog).relative_to(catalog))) or (0, 0)
    quarter = pc.equal(pc.shift_right(table["_healpix_29"], 56), 4 * pixel)
    inner = catalog / hats.tile_path(1, 4 * pixel)
    inner.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.filter(quarter), inner)
    rewrite(catalog, lambda t: t.filter(pc.invert(quarter)))


def header_without(catalog: Path, what: bytes, by: bytes) -> None:
    def change(table: pa.Table) -> pa.Table:
        metadata = table.schema.metadata
        return table.replace_schema_metadata({**metadata, CONTENT_KEY: metadata[CONTENT_KEY].replace(what, by)})

    rewrite(catalog, change)


def common_metadata_of(catalog: Path, change: Callable[[pa.Schema], pa.Schema]) -> None:
    schema = pq.read_schema(catalog / hats.COMMON_METADATA)
    mend_entry(catalog, hats.COMMON_METADATA, hats.common_metadata(change(schema)))


def replace_text(catalog: Path, path: str, what: bytes, by: bytes) -> None:
    content = (catalog / path).read_bytes()
    assert what in content
    mend_entry(catalog, path, content.replace(what, by, 1))


def move_skymap(catalog: Path) -> None:
    counts = hats.read_skymap((catalog / hats.SKYMAP).read_bytes())
    mend_entry(catalog, hats.SKYMAP, hats.skymap(np.roll(counts, 1)))


def metadata_of_other_files(catalog: Path) -> None:
    """`_metadata` with the footers of two files exchanged."""
    one, other = files(catalog)[:2]
    schema = pq.read_schema(catalog / hats.COMMON_METADATA)
    footers = []
    for path, of in ((one, other), (other, one), *((file, file) for file in files(catalog)[2:])):
        sink = io.BytesIO()
        pq.read_metadata(of).write_metadata_file(sink)
        footers.append((str(path.relative_to(catalog)), sink.getvalue()))
    mend_entry(catalog, hats.METADATA, hats.dataset_metadata(schema, footers))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    # changes that show in sizes, checksums and names
    "truncated file": (lambda c: first(c).write_bytes(first(c).read_bytes()[:500]), "has 500 bytes, not"),
    "flipped byte": (flip_byte, "its content has changed"),
    "missing file": (lambda c: first(c).unlink(), ".parquet: is missing"),
    "missing metadata": (lambda c: (c / hats.METADATA).unlink(), "dataset/_metadata: is missing"),
    "edited properties": (lambda c: (c / hats.PROPERTIES).write_text("x=1"), "hats.properties: has 3 bytes, not"),
    "stray file": (lambda c: (c / "dataset" / "x.parquet").write_bytes(b""), "x.parquet: is not part of the catalog"),
    "stray beside": (lambda c: (c / "notes.txt").write_text("x"), "notes.txt: is not part of the catalog"),
    "unfinished file": (lambda c: (c / "dataset" / ".tmp-x").write_bytes(b""), ".tmp-x: is not part of the catalog"),
    # the manifest
    "no manifest": (lambda c: (c / "manifest.json").unlink(), "nothing is published"),
    "half a manifest": (lambda c: (c / "manifest.json").write_text('{"files": ['), "manifest.json: is damaged"),
    "no list of files": (lambda c: alter(c, lambda m: m.pop("metadata_files")), "metadata_files is required"),
    "entry cut": (lambda c: alter(c, lambda m: m["files"][0].pop("sha256")), "files[0].sha256 is required"),
    "other format": (lambda c: edit(c, format=1), "its format is 1; this version reads format 2"),
    "file listed twice": (lambda c: alter(c, lambda m: m["files"].append(m["files"][0])), "is listed 2 times"),
    "file elsewhere": (
        lambda c: alter(c, lambda m: m["files"][0].update(path="../x.parquet")),
        "../x.parquet is not where a file of rows belongs",
    ),
    "unknown metadata file": (
        lambda c: alter(c, lambda m: m["metadata_files"][0].update(path="x")), "metadata_files must be",
    ),
    "no review settings": (lambda c: edit(c, config={}), "does not say how rows were flagged"),
    "row count edited": (lambda c: edit(c, rows=601), "rows is 601, the files have 600"),
    "file's row count edited": (lambda c: alter(c, lambda m: m["files"][0].update(rows=7)), "rows, not 7"),
    "failures edited": (lambda c: edit(c, failed=0), "failed is 0, the files have"),
    "flagged edited": (lambda c: edit(c, flagged=0), "flagged is 0"),
    "lost positions edited": (lambda c: edit(c, without_position=0), "without_position is 0"),
    "survey rows edited": (lambda c: edit(c, manifest_rows=700), "700 rows in the survey's manifest, 600 here"),
    "status counts edited": (lambda c: edit(c, status_counts={"ok": 600}), "status_counts are not"),
    "class counts edited": (lambda c: edit(c, class_counts={}), "class_counts are not"),
    "flag counts edited": (lambda c: edit(c, flag_counts={"AUDIT": 1}), "flag_counts are not"),
    "checksum of ids edited": (lambda c: edit(c, ids_checksum="0" * 16), "ids_checksum is not that of the files' ids"),
    "limit of rows edited": (lambda c: edit(c, max_rows=20), "more than max_rows = 20"),
    "model edited": (lambda c: edit(c, model_id="0" * 16), "another model_id than 0000"),
    "release edited": (lambda c: edit(c, release="dr8"), "another release than dr8"),
    "classes exchanged": (lambda c: edit(c, classes=["featured", "smooth"]), "the schema does not begin with"),
    "threshold edited": (lambda c: edit(c, min_confidence=0.9), "LOW_CONFIDENCE at odds"),
    "repeats edited": (
        lambda c: alter(c, lambda m: m["config"]["review"].update(min_repeats=100)),
        "REPEATED_IMAGE at odds with the image hashes",
    ),
    # rows, with checksums and counts that agree
    "doubled rows": (
        lambda c: rewrite(c, lambda t: pa.concat_tables([t, t.slice(0, 2)]).sort_by("_healpix_29")),
        "2 ids are in more than one row",
    ),
    "rows moved to another file": (move_rows, "3 rows with a position outside the file's pixel"),
    "row moved nowhere": (move_nowhere, "1 rows with a position outside the file's pixel"),
    "rows reversed": (
        lambda c: rewrite(c, lambda t: t.take(list(reversed(range(len(t)))))), "a position out of the order of"
    ),
    "ids out of order": (
        lambda c: rewrite(c, lambda t: t.take(list(reversed(range(len(t))))), nowhere(c)), "a position out of the order"
    ),
    "file of another pixel": (wrong_pixel, "a position outside the file's pixel"),
    "two files for one place": (nested_pixel, "its pixel lies within that of"),
    "pixel of another position": (
        lambda c: rewrite(c, lambda t: put_one(t, "dec", t["dec"][0].as_py() - 0.001)),
        "1 rows with a _healpix_29 that is not the pixel of ra, dec",
    ),
    "position out of range": (
        lambda c: rewrite(c, lambda t: put_one(t, "ra", 400.0)), "1 rows with ra or dec out of range"
    ),
    "half a position": (lambda c: rewrite(c, lambda t: put_one(t, "dec", None)), "dec without ra, or the reverse"),
    "position removed": (
        lambda c: rewrite(c, lambda t: put(t, "ra", pa.nulls(len(t), pa.float64()))), "NO_POSITION at odds"
    ),
    "columns renamed": (
        lambda c: rewrite(c, lambda t: t.rename_columns({"p_smooth": "p_featured", "p_featured": "p_smooth"})),
        "the schema differs from manifest.json's in the order of its columns",
    ),
    "columns in another order": (
        lambda c: rewrite(c, lambda t: t.select(list(reversed(t.column_names)))), "in the order of its columns"
    ),
    "column of another type": (
        lambda c: rewrite(c, lambda t: t.set_column(0, "object_id", t["object_id"].cast(pa.float64(), safe=False))),
        "the schema differs from manifest.json's in object_id",
    ),
    "column dropped": (lambda c: rewrite(c, lambda t: t.drop_columns(["error"])), "manifest.json's in error"),
    "column added": (
        lambda c: rewrite(c, lambda t: t.append_column("z", pa.nulls(len(t), pa.float32()))), "manifest.json's in z"
    ),
    "probabilities exchanged": (
        lambda c: rewrite(c, lambda t: put(put(t, "p_smooth", t["p_featured"]), "p_featured", t["p_smooth"])),
        "a class that is not the most probable one",
    ),
    "probability over one": (
        lambda c: rewrite(c, lambda t: put(t, "p_smooth", pc.add(t["p_smooth"], pa.scalar(1, pa.float32())))),
        "probabilities outside 0…1",
    ),
    "probabilities halved": (
        lambda c: rewrite(c, lambda t: put(t, "p_smooth", pc.multiply(t["p_smooth"], pa.scalar(0.5, pa.float32())))),
        "probabilities that do not sum to 1",
    ),
    "one probability missing": (
        lambda c: rewrite(c, lambda t: put_one(t, "p_smooth", None, plain_row(t))), "some probabilities and not all"
    ),
    "confidence raised": (
        lambda c: rewrite(c, lambda t: put(t, "confidence", [0.99] * len(t))),
        "a confidence that is not the probability",
    ),
    "class removed": (
        lambda c: rewrite(c, lambda t: put(t, "predicted_class", pa.nulls(len(t), pa.string()))),
        "a class that is not the most probable one",
    ),
    "class of no model": (
        lambda c: rewrite(c, lambda t: put_one(t, "predicted_class", "star", plain_row(t))), "a class that the model"
    ),
    "status changed": (
        lambda c: rewrite(c, lambda t: put(t, "status", ["missing"] * len(t))), "a class without status ok"
    ),
    "status made up": (
        lambda c: rewrite(c, lambda t: put_one(t, "status", "fine", plain_row(t))), "1 rows with an unknown status"
    ),
    "error text added": (
        lambda c: rewrite(c, lambda t: put_one(t, "error", "x", plain_row(t))), "an error text with status ok"
    ),
    "hash removed": (
        lambda c: rewrite(c, lambda t: put_one(t, "image_hash", None, plain_row(t))), "an image_hash at odds"
    ),
    "id removed": (lambda c: rewrite(c, lambda t: put_one(t, "object_id", None)), "1 rows with a null in object_id"),
    "flags cleared": (lambda c: rewrite(c, lambda t: put(t, "review_flags", [0] * len(t))), "needs_review at odds"),
    "unknown flag": (
        lambda c: rewrite(c, lambda t: raise_flag(t, ReviewFlag(1 << 20), plain_row(t))), "unknown bits in review_flags"
    ),
    "blank without image": (
        lambda c: rewrite(
            c,
            lambda t: raise_flag(t, ReviewFlag.BLANK, row_with(t, ReviewFlag.UNREADABLE)),
            file_with(c, ReviewFlag.UNREADABLE),
        ),
        "BLANK without an image",
    ),
    "unreadable and classified": (
        lambda c: rewrite(c, lambda t: raise_flag(t, ReviewFlag.UNREADABLE, plain_row(t))), "UNREADABLE at odds"
    ),
    "confident and flagged": (
        lambda c: rewrite(c, lambda t: raise_flag(t, ReviewFlag.LOW_CONFIDENCE, plain_row(t))), "LOW_CONFIDENCE at odds"
    ),
    "familiar and flagged": (
        lambda c: rewrite(c, lambda t: raise_flag(t, ReviewFlag.UNFAMILIAR, plain_row(t))), "UNFAMILIAR at odds"
    ),
    "stable and flagged": (
        lambda c: rewrite(c, lambda t: raise_flag(t, ReviewFlag.UNSTABLE, plain_row(t))), "UNSTABLE at odds"
    ),
    "limit of unfamiliarity edited": (lambda c: edit(c, max_unfamiliarity=0.5), "UNFAMILIAR at odds"),
    "limit of instability taken out": (lambda c: edit(c, max_instability=None), "UNSTABLE at odds"),
    "limit of instability lost": (
        lambda c: alter(c, lambda m: m.pop("max_instability")), "max_instability is required and not given"
    ),
    "a distance below 0": (
        lambda c: rewrite(c, lambda t: put_one(t, "unfamiliarity", -1.0, plain_row(t))), "an unfamiliarity below 0"
    ),
    "an instability that cannot be": (
        lambda c: rewrite(c, lambda t: put_one(t, "instability", 0.6, plain_row(t))), "an instability outside"
    ),
    "one more for the audit": (
        lambda c: rewrite(c, lambda t: raise_flag(t, ReviewFlag.AUDIT, plain_row(t))), "AUDIT at odds with object_id"
    ),
    "a single repeat": (
        lambda c: rewrite(c, lambda t: raise_flag(t, ReviewFlag.REPEATED_IMAGE, plain_row(t))),
        "REPEATED_IMAGE at odds with the image hashes of 1 rows",
    ),
    "a repeat not flagged": (
        lambda c: rewrite(
            c,
            lambda t: raise_flag(t, ReviewFlag.REPEATED_IMAGE, row_with(t, ReviewFlag.REPEATED_IMAGE)),
            file_with(c, ReviewFlag.REPEATED_IMAGE),
        ),
        "REPEATED_IMAGE at odds with the image hashes",
    ),
    # files, with checksums that agree
    "file dropped": (drop_file, "rows is 600, the files have"),
    "data garbled": (lambda c: garble(c, 4), ".parquet: "),
    "footer garbled": (
        lambda c: garble(c, first(c).stat().st_size - 600), "cannot be read as Parquet"
    ),
    "not Parquet": (
        lambda c: mend_entry(c, str(first(c).relative_to(c)), b"PAR1"), "cannot be read as Parquet"
    ),
    "header removed": (
        lambda c: rewrite(c, lambda t: t.replace_schema_metadata(None)), "has no VOTable header"
    ),
    "header cut": (lambda c: header_without(c, b"</VOTABLE>", b""), "its VOTable header cannot be read"),
    "unit removed": (
        lambda c: header_without(c, b'unit="deg"', b""),
        "its VOTable header does not describe the columns as they are: ra, dec",
    ),
    "column not described": (
        lambda c: header_without(c, b'name="status"', b'name="state"'),
        "does not describe the columns as they are: status, state",
    ),
    "pixel not listed": (
        lambda c: replace_text(c, hats.PARTITIONS, b"\n0,0,", b"\n1,0,"), "its pixels or their rows are not those"
    ),
    "pixels garbled": (
        lambda c: replace_text(c, hats.PARTITIONS, b"Norder,Npix", b"Npix,Norder"), "cannot be read: its columns are"
    ),
    "rows in properties": (
        lambda c: replace_text(c, hats.PROPERTIES, b"hats_nrows=", b"hats_nrows=9"), "hats_nrows is 9"
    ),
    "properties lack a key": (
        lambda c: replace_text(c, hats.PROPERTIES, b"hats_col_ra", b"hats_col_rb"), "hats_col_ra is missing"
    ),
    "properties garbled": (
        lambda c: replace_text(c, hats.PROPERTIES, b"hats_col_ra=", b"hats_col_ra"), "not an entry: hats_col_rara"
    ),
    "skymap turned": (move_skymap, "skymap.fits: its counts are not those of the rows"),
    "skymap garbled": (lambda c: mend_entry(c, hats.SKYMAP, b"x" * 2880), "skymap.fits: cannot be read"),
    "footers exchanged": (metadata_of_other_files, "_metadata: its row groups of Norder=0"),
    "footers missing": (
        lambda c: mend_entry(c, hats.METADATA, (c / hats.COMMON_METADATA).read_bytes()), "_metadata: its row groups"
    ),
    "common schema": (
        lambda c: common_metadata_of(c, lambda s: s.remove(0)), "_common_metadata: the schema differs"
    ),
    "common header": (
        lambda c: common_metadata_of(c, lambda s: s.with_metadata(None)), "_common_metadata: has no VOTable header"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(catalog: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    damage(catalog)
    problems = verify_catalog(str(catalog))
    assert any(message in problem for problem in problems), problems


def test_changed_rows_show_only_by_the_rule_they_break(catalog: Path) -> None:
    """`mend` leaves no stale checksum or count, which would hide whether a rule is checked."""
    mend(catalog)
    assert verify_catalog(str(catalog)) == []
    rewrite(catalog, lambda t: put_one(t, "object_id", 5))
    assert verify_catalog(str(catalog)) == []
    damage, message = DAMAGE["one more for the audit"]
    damage(catalog)
    (problem,) = verify_catalog(str(catalog))
    assert message in problem


def test_a_changed_id_differs_from_the_checksum_of_ids(catalog: Path) -> None:
    kept = manifest_of(catalog)["ids_checksum"]
    rewrite(catalog, lambda t: put_one(t, "object_id", 5))
    edit(catalog, ids_checksum=kept)
    assert verify_catalog(str(catalog)) == ["manifest.json: ids_checksum is not that of the files' ids"]


def test_text_ids_are_compared_too(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(300, seed=2, without_position=0.1, text_ids=True), 100, 60, 120)
    assert verify_catalog(str(catalog)) == []
    rewrite(catalog, lambda t: pa.concat_tables([t, t.slice(0, 1)]).sort_by("_healpix_29"))
    assert any("1 ids are in more than one row: J1237" in problem for problem in verify_catalog(str(catalog)))


def test_a_header_of_bounded_texts_is_the_same_as_one_without_bounds() -> None:
    schema = pa.schema([pa.field("a", pa.string()), pa.field("b", pa.int32())])
    assert described(schema, "", {}, {"a": 7}).metadata[CONTENT_KEY] != described(schema, "", {}).metadata[CONTENT_KEY]


def test_an_unknown_scheme_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no driver for this scheme"):
        verify_catalog("nosuchscheme://x")


def test_a_catalog_in_memory_can_be_verified(published: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(published), "/verified", recursive=True)
    assert verify_catalog("memory://verified") == []


def test_the_job_prints_the_problems_and_exits_with_3(catalog: Path, call_job: CallJob) -> None:
    good = call_job("verify_catalog", str(catalog))
    assert good.code == 0, good.log
    assert json.loads(good.stdout.splitlines()[-1]) == {"catalog_uri": str(catalog), "problems": []}
    (catalog / "notes.txt").write_text("x")
    bad = call_job("verify_catalog", str(catalog))
    assert bad.code == 3
    assert json.loads(bad.stdout.splitlines()[-1])["problems"] == ["notes.txt: is not part of the catalog"]
    assert "notes.txt: is not part of the catalog" in bad.log
    assert "Traceback" not in bad.log


def test_the_job_takes_one_catalog_and_no_settings(tmp_path: Path, call_job: CallJob) -> None:
    assert call_job("verify_catalog").code == 2
    assert call_job("verify_catalog", "nosuchscheme://x").code == 2
    assert call_job("verify_catalog", str(tmp_path), "--set", "a=b").code == 2
    nothing = call_job("verify_catalog", str(tmp_path))
    assert nothing.code == 3
    assert "nothing is published" in nothing.log


@pytest.mark.parametrize("concentrations", [False, True])
def test_a_catalog_has_the_columns_of_its_questions(tmp_path: Path, concentrations: bool) -> None:
    """In the manifest's schema, in the files, and in the VOTable headers; and its rows are checked by them."""
    rows = with_votes(sky_rows(60, seed=5), concentrations=concentrations)
    catalog = publish_rows(tmp_path, rows)
    assert verify_catalog(str(catalog)) == []
    names = [name for question in FEW_QUESTIONS for name in question.fraction_columns]
    assert {"disk_edge_on_asked_fraction", *names} <= manifest_of(catalog)["schema"].keys()
    assert ("bar_yes_dirichlet" in manifest_of(catalog)["schema"]) is False
    assert ("disk_edge_on_yes_dirichlet" in manifest_of(catalog)["schema"]) is concentrations
    edit(catalog, checkpoint={}, config={**manifest_of(catalog)["config"], "classify": {}})
    assert "manifest.json: the schema does not begin with the columns that a catalog has" in verify_catalog(
        str(catalog)
    )
    edit(catalog, checkpoint={"spec": {"questions": [{"name": "bar"}]}})
    assert any("does not say which questions it answers" in problem for problem in verify_catalog(str(catalog)))


def test_wrong_votes_are_named(tmp_path: Path) -> None:
    rows = with_votes(sky_rows(60, seed=5))
    place = rows.column_names.index("disk_edge_on_yes_fraction")
    wrong = pc.multiply(rows["disk_edge_on_yes_fraction"], pa.scalar(0.5, pa.float32()))
    problems = verify_catalog(str(publish_rows(tmp_path, rows.set_column(place, rows.column_names[place], wrong))))
    assert any("rows with fractions of disk_edge_on that do not sum to 1 (the first: object_id" in p for p in problems)
