"""Verification names damage of the margin cache and the index, also where all checksums agree with it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog import id_index
from galaxy_batch.catalog.collection import COLLECTION, INDEX
from galaxy_batch.catalog.verify import verify_catalog
from tests.support.skies import clumped_rows, publish_rows

MARGIN = "margin_10arcs"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_index, "_SAMPLED", 0.2)
        rows = clumped_rows(400, seed=4)
        kept = pa.array([None if number % 3 else [number, None] for number in range(400)], pa.list_(pa.int64()))
        rows = rows.append_column("counts", kept)
        folder = publish_rows(tmp_path_factory.mktemp("sky"), rows, 200, 60, margin_arcsec=10, index=True)
    assert verify_catalog(str(folder)) == []
    return folder.parent


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """The folder of the collection."""
    return Path(shutil.copytree(published, tmp_path / "collection"))


def verify(root: Path) -> list[str]:
    return verify_catalog(str(root / "catalog"))


def largest_margin(root: Path) -> Path:
    files = sorted((root / MARGIN).glob("dataset/**/*.parquet"))
    return max(files, key=lambda file: pq.read_metadata(file).num_rows)


def index_file(root: Path, number: int = 1) -> Path:
    return root / INDEX / "dataset" / "index" / f"part-{number:06d}.parquet"


def replace(root: Path, file: Path, content: bytes, rows: int | None = None) -> None:
    """Write a file, and its size, checksum and rows into the manifest."""
    path, manifest = str(file.relative_to(root)), root / "catalog" / "manifest.json"
    entries: dict[str, Any] = json.loads(manifest.read_text())
    for key in ("margin_files", "index_files", "collection_files"):
        listed = [entry for entry in entries[key] if entry["path"] == path]
        for entry in listed:
            entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            entry.update({} if rows is None else {"rows": rows})
    file.write_bytes(content)
    manifest.write_text(json.dumps(entries))


def rewrite(root: Path, file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows of a file; the manifest agrees with it."""
    table = change(pq.read_table(file, partitioning=None))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    replace(root, file, sink.getvalue().to_pybytes(), len(table))


def put(rows: pa.Table, name: str, value: Any) -> pa.Table:
    """The rows with another value in the first of them."""
    place, column = rows.column_names.index(name), rows[name]
    values = pa.chunked_array([pa.array([value], column.type), *column.slice(1).chunks], column.type)
    return rows.set_column(place, rows.schema.field(name), values)


def named(problems: list[str], file: Path, root: Path) -> list[str]:
    """The problems of a file, without its path."""
    path = f"{file.relative_to(root)}: "
    return [problem.removeprefix(path) for problem in problems if problem.startswith(path)]


def test_each_missing_file_is_named(root: Path) -> None:
    files = [largest_margin(root), index_file(root), root / COLLECTION, root / MARGIN / "partition_info.csv"]
    for file in files:
        file.unlink()
    problems = verify(root)
    for file in files:
        assert named(problems, file, root) == ["is missing"]
    assert any(problem.startswith(f"{INDEX}: ") and "missing" in problem for problem in problems)
    assert any(problem.startswith(f"{MARGIN}: ") and "missing" in problem for problem in problems)


def published_of(root: Path) -> Path:
    return next((root / "catalog").glob("dataset/**/*.parquet"))


@pytest.mark.parametrize("damage", ["changed", "shorter"])
@pytest.mark.parametrize("file", [f"{MARGIN}/hats.properties", COLLECTION, "margin", "index"])
def test_damaged_files_are_named(root: Path, file: str, damage: str) -> None:
    path = {"margin": largest_margin(root), "index": index_file(root)}.get(file, root / file)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + (damage == "changed") :])
    assert len(path.read_bytes()) == len(content) + (damage != "changed")
    words = "its content has changed (sha256)" if damage == "changed" else f"has {len(content) + 1} bytes"
    assert words in named(verify(root), path, root)[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [("confidence", 0.123), ("status", "missing"), ("ra", None), ("review_flags", 3), ("counts", [7])],
)
def test_a_wrong_row_in_the_margin_is_noticed(root: Path, name: str, value: object) -> None:
    rewrite(root, largest_margin(root), lambda rows: put(rows, name, value))
    problems = verify(root)
    assert f"{MARGIN}: 1 rows of the catalog are missing in it" in problems
    assert f"{MARGIN}: 1 rows in it are not rows of the catalog, or belong elsewhere" in problems


@pytest.mark.parametrize("kind", ["margin", "index"])
def test_a_missing_or_doubled_row_is_noticed(root: Path, kind: str) -> None:
    file, folder = (largest_margin(root), MARGIN) if kind == "margin" else (index_file(root), INDEX)
    whole = file.read_bytes()
    rewrite(root, file, lambda rows: rows.slice(1))
    assert f"{folder}: 1 rows of the catalog are missing in it" in verify(root)
    file.write_bytes(whole)
    rewrite(root, file, lambda rows: pa.concat_tables([rows.slice(0, 1), rows]))
    problems = verify(root)
    assert f"{folder}: 1 rows are in it more than once" in problems
    assert any("order" in problem for problem in named(problems, file, root))


def test_a_row_in_the_margin_of_another_pixel_is_noticed(root: Path) -> None:
    files = sorted((root / MARGIN).glob("dataset/**/*.parquet"))
    inside = pq.read_table(published_of(root), partitioning=None).slice(0, 1)
    other = next(
        file for file in files
        if not pc.any(pc.is_in(pq.read_table(file, partitioning=None)["object_id"], inside["object_id"])).as_py()
    )  # fmt: skip
    rewrite(root, other, lambda rows: pa.concat_tables([rows, inside]).sort_by("_healpix_29"))
    problems = verify(root)
    assert f"{MARGIN}: 1 rows in it are not rows of the catalog, or belong elsewhere" in problems
    assert any("rows are listed, the catalog has" in problem for problem in named(problems, other, root))


@pytest.mark.parametrize(("name", "value"), [("Norder", 29), ("Npix", 5), ("_healpix_29", 12), ("object_id", -(2**63))])
def test_a_wrong_entry_of_the_index_is_noticed(root: Path, name: str, value: int) -> None:
    rewrite(root, index_file(root), lambda rows: put(rows, name, value))
    problems = verify(root)
    assert f"{INDEX}: 1 rows of the catalog are missing in it" in problems
    assert f"{INDEX}: 1 rows in it are not rows of the catalog, or belong elsewhere" in problems


def test_files_of_the_index_in_another_order_are_noticed(root: Path) -> None:
    first, second = (pq.read_table(index_file(root, number)) for number in (0, 1))
    rewrite(root, index_file(root, 0), lambda _: second)
    rewrite(root, index_file(root, 1), lambda _: first)
    problems = named(verify(root), index_file(root, 1), root)
    assert problems == ["its ids are not in ascending order, or not behind those of the files before"]


@pytest.mark.parametrize("file", ["margin", "index"])
def test_other_columns_are_noticed(root: Path, file: str) -> None:
    path = largest_margin(root) if file == "margin" else index_file(root)
    rewrite(root, path, lambda rows: rows.drop_columns(["_healpix_29"]))
    (problem,) = named(verify(root), path, root)
    assert "_healpix_29" in problem


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (COLLECTION, "default_margin=margin_10arcs\n", "", "default_margin is missing"),
        (COLLECTION, "all_indexes=object_id", "all_indexes=id", "all_indexes is id index_object_id, not object_id"),
        (f"{MARGIN}/hats.properties", "hats_margin_threshold=10", "hats_margin_threshold=20", "hats_margin_threshold"),
        (f"{MARGIN}/partition_info.csv", "\n", ",\n", "cannot be read"),
        (f"{INDEX}/hats.properties", "hats_nrows=", "hats_nrows=1", "hats_nrows is 1"),
    ],
)
def test_files_that_describe_something_else_are_noticed(
    root: Path, file: str, old: str, new: str, problem: str
) -> None:
    text = (root / file).read_text()
    assert old in text
    replace(root, root / file, text.replace(old, new, 1).encode())
    assert any(said.startswith(problem) for said in named(verify(root), root / file, root))


@pytest.mark.parametrize("folder", [MARGIN, INDEX])
def test_merged_metadata_of_other_files_are_noticed(root: Path, folder: str) -> None:
    file = root / folder / "dataset" / "_metadata"
    replace(root, file, (file.parent / "_common_metadata").read_bytes())
    assert "row groups" in named(verify(root), file, root)[0]


def test_other_files_are_named(root: Path) -> None:
    stray = root / MARGIN / "dataset" / "Norder=10" / "Dir=0" / "Npix=3.parquet"
    stray.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(largest_margin(root), stray)
    assert verify(root) == [f"{stray.relative_to(root)}: is not part of the collection"]


def test_a_manifest_without_the_column_of_ids_is_named(root: Path) -> None:
    manifest = root / "catalog" / "manifest.json"
    entries = json.loads(manifest.read_text())
    del entries["schema"]["object_id"]
    manifest.write_text(json.dumps(entries))
    assert "manifest.json: the schema does not begin with the columns that a catalog has" in verify(root)


def test_a_copy_of_the_catalog_alone_is_verified(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root / "catalog", tmp_path / "alone"))
    assert verify_catalog(str(copy)) == []
    shutil.copy(root / COLLECTION, tmp_path / COLLECTION)
    assert f"{INDEX}/hats.properties: is missing" in verify_catalog(str(copy))


@pytest.mark.parametrize("key", ["margin_files", "index_files", "collection_files"])
def test_a_manifest_that_lists_other_files_is_refused(root: Path, key: str) -> None:
    manifest = root / "catalog" / "manifest.json"
    entries = json.loads(manifest.read_text())
    entries[key][0]["path"] = "../secret.parquet"
    manifest.write_text(json.dumps(entries))
    (problem,) = verify(root)
    assert problem.startswith(f"manifest.json: {key}")
