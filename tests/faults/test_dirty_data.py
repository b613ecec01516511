"""Every kind of bad cutout is one row with a status and an error, without a crash, a hang or excessive memory."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from _pytest.mark import ParameterSet

from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.config import ClassifyConfig, ManifestConfig
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.inputs.manifest import read_objects
from galaxy_batch.rows import UnusableCutout
from galaxy_batch.storage import downloads, retries
from tests.faults.corpus import IMAGES, PLACES, Kind, galaxy, rotated, write_place
from tests.faults.reader import Reader
from tests.faults.servers import RESPONSES, server_process
from tests.support.models import SavedModel
from tests.support.repository import REPOSITORY
from tests.support.skies import read_catalog

MAX_PEAK_BYTES = 1000 << 20  # three bands of 25 megapixels as float64 need 600 MB, their RGB image 75 MB
MAX_BYTES = ClassifyConfig().max_image_bytes
BOMBS = re.compile("bomb|[0-9] megapixels|MB behind")


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader(megabytes=2000, limit_s=120)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with server_process() as address:
        yield address


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    names = [kind.name for kind in IMAGES] + [place.name for place in PLACES] + list(RESPONSES)
    assert len(set(names)) == len(names) >= 60


def marked(kind: Kind) -> ParameterSet:
    """Marks decompression bombs, which take seconds to make."""
    return pytest.param(kind, id=kind.name, marks=pytest.mark.faults if BOMBS.search(kind.name) else ())


@pytest.mark.parametrize("kind", [marked(kind) for kind in IMAGES])
def test_status_and_error_of_each_kind_of_file(kind: Kind, reader: Reader) -> None:
    verdict = reader(kind.make())
    assert verdict.status in kind.statuses, verdict.error
    if verdict.status != "ok":
        assert re.search(kind.error, verdict.error), verdict.error
        assert "MemoryError" not in verdict.error
    assert verdict.peak_bytes < MAX_PEAK_BYTES
    assert len(verdict.error) < 500


def test_exif_rotation_is_not_applied() -> None:
    upright = decode(rotated(), 10**6)
    assert upright.shape == (3, galaxy().height // 2, galaxy().width)


def test_only_the_first_frame_is_read() -> None:
    by_name = {kind.name: kind for kind in IMAGES}
    for one, many in (("gif", "gif, animated"), ("png", "png, animated"), ("tiff", "tiff, many frames")):
        assert np.array_equal(decode(by_name[one].make(), 10**6), decode(by_name[many].make(), 10**6))


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(retries, "WAIT_GROWTH", 1.0)
    monkeypatch.setattr(downloads, "TRY_S", 8.0)
    monkeypatch.setattr(downloads, "OBJECT_S", 10.0)


def decoded(status: str, error: str | None, content: bytes | None) -> tuple[str, str]:
    """Status and error of a cutout after it was fetched and decoded."""
    if status == "ok":
        try:
            decode(content or b"", 10**6)
        except UnusableCutout as bad:
            return str(bad.status), bad.reason
    return status, error or ""


def test_status_and_error_of_each_kind_of_path(tmp_path: Path, short_timeouts: None) -> None:
    for place in PLACES:
        write_place(tmp_path, place)
    table = pa.table({"object_id": range(len(PLACES)), "where": [place.name for place in PLACES]})
    pq.write_table(table, tmp_path / "objects.parquet")
    objects = read_objects(ManifestConfig(uri=str(tmp_path / "objects.parquet"), image_column="where"))
    rows = fetch_cutouts(objects, MAX_BYTES).select(["status", "error", "_image_bytes"])
    for place, row in zip(PLACES, rows.to_pylist(), strict=True):
        status, error = decoded(*row.values())
        assert status == place.status, (place, error)
        assert status == "ok" or re.search(place.error, error), (place, error)


@pytest.mark.faults
def test_status_and_error_of_each_kind_of_server(server: str, short_timeouts: None) -> None:
    rows = fetch_cutouts(pa.table({"_image_uri": [f"{server}/{name}" for name in RESPONSES]}), 1 << 20)
    for (name, (wanted, pattern)), row in zip(
        RESPONSES.items(), rows.select(["status", "error", "_image_bytes"]).to_pylist(), strict=True
    ):
        status, error = decoded(*row.values())
        assert status == wanted, (name, error)
        assert wanted == "ok" or re.search(pattern, error), (name, error)


@pytest.mark.faults
@pytest.mark.timeout(550)
def test_a_job_with_all_of_them_has_one_row_for_each(server: str, saved_model: SavedModel, tmp_path: Path) -> None:
    wanted: dict[str, tuple[tuple[str, ...], str]] = {}
    for number, kind in enumerate(IMAGES):
        (tmp_path / f"{number}.jpg").write_bytes(kind.make())
        wanted[f"{number}.jpg"] = (kind.statuses, kind.error)
    for place in PLACES:
        write_place(tmp_path, place)
        wanted[place.name] = ((place.status,), place.error)
    wanted |= {f"{server}/{name}": ((status,), pattern) for name, (status, pattern) in RESPONSES.items()}
    table = pa.table({"object_id": range(len(wanted)), "where": list(wanted)})
    pq.write_table(table, tmp_path / "objects.parquet")
    config = f"""
        release = "dirty"
        output_uri = "{tmp_path}/out"
        checkpoint_uri = "{saved_model.uri}"
        max_failed_fraction = 1.0
        keep_unreachable = true
        manifest = {{uri = "{tmp_path}/objects.parquet", image_column = "where", keep_columns = ["where"]}}
        classify = {{chunk_rows = 64, max_image_bytes = {12 << 20}}}
        runtime = {{num_cpus = 2, actors = 1, engine = "torch"}}
    """
    (tmp_path / "dirty.toml").write_text(config)
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "jobs.build_catalog", str(tmp_path / "dirty.toml")]
    done = subprocess.run(
        command, check=False, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-5000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert verify_catalog(summary["catalog_uri"]) == []
    rows = read_catalog(summary["catalog_uri"])
    assert rows["object_id"].to_pylist() == list(range(len(wanted)))
    for row in rows.select(["where", "status", "error", "predicted_class"]).to_pylist():
        statuses, pattern = wanted[row["where"]]
        assert row["status"] in statuses, row
        assert (row["status"] == "ok") == (row["error"] is None) == (row["predicted_class"] is not None), row
        assert row["status"] == "ok" or re.search(pattern, row["error"]), row
    assert "without finishing" not in done.stderr, "a worker died"
