"""From rows to a margin cache and an index: every row in the margins where it belongs, every id once."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog import hats, id_index
from galaxy_batch.catalog import publish_collection as publication
from galaxy_batch.catalog.collection import COLLECTION, INDEX
from galaxy_batch.catalog.layout import Layout
from galaxy_batch.catalog.manifest import read_manifest, require_manifest, unpublish
from galaxy_batch.catalog.margin import SkyDivision, margin_rows
from galaxy_batch.catalog.sort_parts import sort_parts
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.runtime.tasks import run_in_order, run_tasks
from galaxy_batch.sky.healpix import Tile
from tests.support.repository import REPOSITORY
from tests.support.s3_server import S3
from tests.support.skies import (
    catalog_contents,
    clumped_rows,
    layout_in,
    publish_rows,
    publish_sorted,
    sky_rows,
    with_embeddings,
    write_unsorted_parts,
)

COUNT = 800


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return clumped_rows(COUNT, seed=4)


@pytest.fixture(autouse=True)
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough ids are sampled for several files of the index of a few rows."""
    monkeypatch.setattr(id_index, "_SAMPLED", 0.2)


def publish_both(folder: Path, rows: pa.Table, part_rows: int = 500, run_rows: int = 700) -> Path:
    return publish_rows(folder, rows, part_rows, 60, run_rows, margin_arcsec=10, index=True)


def tiles_of(catalog: Path) -> dict[str, Tile]:
    files = {str(file.relative_to(catalog)): file for file in catalog.glob("dataset/**/*.parquet")}
    pixels = {path: hats.pixel_of(path) for path in files}
    return {path: Tile(*pixel, pq.read_metadata(files[path]).num_rows) for path, pixel in pixels.items() if pixel}


@pytest.mark.parametrize("text_ids", [False, True])
def test_margins_and_index_have_the_rows_that_belong_there(text_ids: bool, tmp_path: Path) -> None:
    rows = clumped_rows(COUNT, seed=4, text_ids=text_ids)
    catalog = publish_both(tmp_path, rows)
    assert verify_catalog(str(catalog)) == []
    tiles, placed = tiles_of(catalog), rows.filter(rows["ra"].is_valid())
    keys = placed["_healpix_29"].to_numpy()
    places, first, order = margin_rows(keys, SkyDivision(list(tiles.values())), 10)
    wanted: dict[tuple[int, int], list[int]] = {}
    for place, key, k in zip(places.tolist(), first.tolist(), order.tolist(), strict=True):
        wanted.setdefault((k, key >> 2 * (29 - k)), []).append(place)
    files = list((catalog.parent / "margin_10arcs").glob("dataset/**/*.parquet"))
    assert len(files) == len(wanted) > 8
    published = {row["object_id"]: row for file in catalog.glob("dataset/**/*.parquet") for row in read(file)}
    for file in files:
        pixel = hats.pixel_of(str(file.relative_to(catalog.parent / "margin_10arcs")))
        assert pixel is not None
        in_file = read(file)
        ids = placed["object_id"].take(pa.array(wanted[pixel])).to_pylist()
        assert sorted(row["object_id"] for row in in_file) == sorted(ids)
        assert all(row == published[row["object_id"]] for row in in_file)

    index = sorted((catalog.parent / INDEX).glob("dataset/index/*.parquet"))
    entries = [row for file in index for row in read(file)]
    assert len(index) > 3
    assert [row["object_id"] for row in entries] == sorted(placed["object_id"].to_pylist())
    of_tile = {row["object_id"]: tile for path, tile in tiles.items() for row in read(catalog / path)}
    assert {(row["object_id"], row["Norder"], row["Npix"], row["_healpix_29"]) for row in entries} == {
        (object_id, tile.order, tile.pixel, published[object_id]["_healpix_29"]) for object_id, tile in of_tile.items()
    }


def read(file: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = pq.read_table(file, partitioning=None).to_pylist()
    return entries


def test_the_collection_does_not_depend_on_the_size_or_order_of_the_parts(rows: pa.Table, tmp_path: Path) -> None:
    one = publish_both(tmp_path / "a", rows)
    order = np.random.default_rng(1).permutation(len(rows))
    other = publish_both(tmp_path / "b", rows.take(pa.array(order)), 130, 300)
    for member in ("margin_10arcs", INDEX):
        wanted = catalog_contents(one.parent / member)
        assert catalog_contents(other.parent / member) == wanted
        assert len(wanted) > 5
    assert (one.parent / COLLECTION).read_bytes() == (other.parent / COLLECTION).read_bytes()


@pytest.mark.parametrize(("margin_arcsec", "index"), [(0, False), (2.5, False), (0, True)])
def test_margin_and_index_can_be_switched_off(
    rows: pa.Table, margin_arcsec: float, index: bool, tmp_path: Path
) -> None:
    catalog = publish_rows(tmp_path, rows, 500, 60, margin_arcsec=margin_arcsec, index=index)
    assert verify_catalog(str(catalog)) == []
    beside = {path.name for path in catalog.parent.iterdir()} - {"catalog", "parts"}
    wanted = {"margin_2.5arcs"} if margin_arcsec else set()
    wanted |= {INDEX} if index else set()
    assert beside == (wanted | {COLLECTION} if wanted else set())
    without = publish_rows(tmp_path / "without", rows, 500, 60)
    assert catalog_contents(catalog) == catalog_contents(without)
    manifest = require_manifest(str(catalog))
    assert (bool(manifest.margin_files), bool(manifest.index_files)) == (margin_arcsec > 0, index)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_few_rows_are_a_collection(share: float, tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(30, without_position=share), margin_arcsec=10, index=True)
    assert verify_catalog(str(catalog)) == []
    (file,) = (catalog.parent / INDEX).glob("dataset/index/*.parquet")
    assert len(read(file)) == 30 * (1 - share)


def test_embeddings_are_not_in_the_margin(rows: pa.Table, tmp_path: Path) -> None:
    catalog = publish_both(tmp_path, with_embeddings(rows))
    assert verify_catalog(str(catalog)) == []
    assert not list((catalog.parent / "margin_10arcs").rglob("*.pq"))


def test_metadata_of_all_files_in_one_are_not_written_where_they_would_be_large(
    rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`id_search` needs those of the index."""
    monkeypatch.setattr(hats, "LARGEST_METADATA", 1000)
    catalog = publish_both(tmp_path, rows)
    merged = {file.relative_to(catalog.parent) for file in catalog.parent.rglob("_metadata")}
    assert merged == {Path(INDEX, "dataset", "_metadata")}
    assert verify_catalog(str(catalog)) == []
    (catalog.parent / INDEX / "dataset" / "_metadata").unlink()
    assert verify_catalog(str(catalog)) == [f"{INDEX}/dataset/_metadata: is missing"]


def test_a_margin_of_another_width_replaces_the_first(rows: pa.Table, tmp_path: Path) -> None:
    layout, sizes = write_unsorted_parts(tmp_path, rows)
    for margin_arcsec, index in ((10.0, True), (5.0, False)):
        totals = sort_parts(layout, sizes, run_in_order)
        publish_sorted(layout, totals, rows, 60, margin_arcsec=margin_arcsec, index=index)
        assert verify_catalog(layout.catalog) == []
    assert sorted(path.name for path in Path(layout.root).iterdir()) == [
        "catalog", COLLECTION, "margin_5arcs", "parts",
    ]  # fmt: skip
    kept = Path(layout.root, "margin_of_a_page")
    kept.mkdir()
    unpublish(layout.catalog)
    assert sorted(path.name for path in Path(layout.root).iterdir()) == ["margin_of_a_page", "parts"]


@pytest.mark.parametrize("kind", ["margin", "ids"])
def test_nothing_is_published_when_a_run_has_changed(
    rows: pa.Table, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, sizes = write_unsorted_parts(tmp_path, rows)
    runs = {"margin": layout.margin_rows, "ids": layout.sorted_ids}[kind]
    written = publication.publish_collection

    def exchange(*arguments: object) -> object:
        Path(runs(5)).write_bytes(Path(runs(6)).read_bytes())
        return written(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("galaxy_batch.catalog.publish.publish_collection", exchange)
    with pytest.raises(RuntimeError, match="nothing was published"):
        publish_sorted(layout, sort_parts(layout, sizes, run_in_order), rows, 60, margin_arcsec=10, index=True)
    assert read_manifest(layout.catalog) is None
    assert not Path(layout.root, COLLECTION).exists()


SCRIPT = """
import sys
from pathlib import Path
from galaxy_batch.storage import files
from tests.support.skies import clumped_rows, publish_rows

written = files.write_atomically
def write_and_say(uri, content):
    written(uri, content)
    print(uri, flush=True)
    sys.stdin.readline()
for name in list(sys.modules):
    if getattr(sys.modules[name], "write_atomically", None) is written:
        sys.modules[name].write_atomically = write_and_say
publish_rows(Path(sys.argv[1]), clumped_rows(200, seed=4), 100, 60, margin_arcsec=10, index=True)
"""


def run_until(folder: Path, seen: str) -> list[str]:
    """Publish in another process, which is killed when it has written a file with this in its path."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=REPOSITORY,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    paths = []
    for line in process.stdout:
        paths.append(line.strip())
        if seen in line:
            process.kill()
            break
        process.stdin.write("\n")
        process.stdin.flush()
    process.wait(60)
    assert seen in paths[-1]
    return paths


@pytest.mark.parametrize("seen", ["margin_10arcs/dataset/Norder", "index_object_id/dataset", COLLECTION])
def test_a_killed_publication_leaves_no_collection_without_its_catalog(seen: str, tmp_path: Path) -> None:
    layout = layout_in(tmp_path)
    paths = run_until(tmp_path, seen)
    assert not any(path.endswith("manifest.json") for path in paths)
    assert read_manifest(layout.catalog) is None
    assert Path(layout.root, COLLECTION).exists() == (seen == COLLECTION)
    if seen == COLLECTION:  # the last but manifest.json
        assert {path.name for path in Path(layout.catalog).iterdir()} > {"dataset", "hats.properties"}
    rows = clumped_rows(200, seed=4)
    resumed = publish_rows(tmp_path, rows, 100, 60, margin_arcsec=10, index=True)
    assert verify_catalog(str(resumed)) == []


def test_what_makes_a_collection_is_removed_first(rows: pa.Table, tmp_path: Path, monkeypatch: Any) -> None:
    catalog = publish_both(tmp_path, rows)
    removed: list[str] = []
    monkeypatch.setattr("galaxy_batch.catalog.manifest.remove_tree", removed.append)
    unpublish(str(catalog))
    assert removed == [str(catalog.parent / COLLECTION), str(catalog / "manifest.json"), str(catalog)]


def test_what_makes_a_collection_is_written_last_to_a_store(rows: pa.Table, s3: S3) -> None:
    layout, sizes = write_unsorted_parts(s3.uri, rows)
    publish_to(layout, sizes, rows)
    before = len(s3.proxy.requests)
    publish_to(layout, sizes, rows)
    assert verify_catalog(layout.catalog) == []
    requests = [(request.method, request.path) for request in s3.proxy.requests[before:]]
    wrote = [path for method, path in requests if method == "PUT" and "/exchange/" not in path]
    assert wrote[-2].endswith(COLLECTION)
    assert wrote[-1].endswith("manifest.json")
    assert not [name for name in s3.names() if "/exchange/" in name]
    s3.direct.rm(f"{layout.root.removeprefix('s3://')}/{INDEX}/hats.properties")
    assert verify_catalog(layout.catalog) == [f"{INDEX}/hats.properties: is missing"]


def publish_to(layout: Layout, sizes: list[int], rows: pa.Table) -> None:
    publish_sorted(layout, sort_parts(layout, sizes, run_in_order), rows, 200, margin_arcsec=10, index=True)


@pytest.mark.usefixtures("ray_started")
def test_ray_does_the_same_as_one_process(rows: pa.Table, tmp_path: Path) -> None:
    one = publish_rows(tmp_path / "one", rows, 500, 300, margin_arcsec=10, index=True)
    many = publish_rows(tmp_path / "many", rows, 500, 300, task_runner=run_tasks, margin_arcsec=10, index=True)
    assert verify_catalog(str(many)) == []
    for member in ("margin_10arcs", INDEX):
        assert catalog_contents(many.parent / member) == catalog_contents(one.parent / member)
