from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.manifest import open_manifest
from tests.support.manifests import manifest_config, manifest_rows


def write(folder: Path, name: str = "t.parquet", **columns: Any) -> ManifestConfig:
    """A Parquet file of ten objects."""
    objects = {"objid": np.arange(10), "ra": np.linspace(0, 359, 10), "dec": np.linspace(-90, 90, 10), **columns}
    pq.write_table(pa.table(objects), folder / name)
    return manifest_config(folder / name)


def test_ids_of_two_types_are_refused_naming_the_files(tmp_path: Path) -> None:
    write(tmp_path, "0.parquet")
    write(tmp_path, "1.parquet", objid=[str(n) for n in range(10, 20)])
    config = manifest_config(tmp_path)
    with pytest.raises(InputError, match=r"manifest\.id_column = 'objid': int64 in .*0\.parquet and string in .*1"):
        open_manifest(config, 2)
    rows = manifest_rows(replace(config, integer_ids=True), 2)
    assert rows["object_id"].to_pylist() == list(range(20))


def test_repeated_ids_are_refused_and_hash_collisions_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "1.parquet", objid=list("abcdefghij"))
    write(tmp_path, "2.parquet", objid=list("klmnopqrst"))
    config = manifest_config(tmp_path / "*.parquet")
    monkeypatch.setattr("galaxy_batch.inputs.scan.id_hashes", lambda ids: np.full(len(ids), 7, np.uint64))
    assert open_manifest(config, 4).rows == 20
    monkeypatch.undo()
    write(tmp_path, "2.parquet", objid=list("kdmnopbrst"))
    with pytest.raises(
        InputError,
        match=r"2 ids .*: b \(1\.parquet row 2, 2\.parquet row 7\), d \(1\.parquet row 4, 2\.parquet row 2\)",
    ):
        open_manifest(config, 4)


def test_repeated_ids_of_a_hats_catalog_name_file_and_row(tmp_path: Path) -> None:
    for pixel, ids in ((4, [1, 2, 3]), (5, [4, 2, 5])):
        folder = tmp_path / "dataset/Norder=0/Dir=0"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"objid": ids, "ra": [1.5] * 3, "dec": [0.5] * 3}), folder / f"Npix={pixel}.parquet")
    files = r"2 \(dataset/Norder=0/Dir=0/Npix=4\.parquet row 2, dataset/Norder=0/Dir=0/Npix=5\.parquet row 2\)"
    with pytest.raises(InputError, match=f"1 ids are in more than one row: {files}"):
        open_manifest(manifest_config(tmp_path), 2)


def test_swapped_positions_are_noticed(tmp_path: Path) -> None:
    config = write(tmp_path, ra=np.linspace(5, 355, 10), dec=np.linspace(-80, 80, 10))
    with pytest.raises(
        InputError, match=r"manifest\.ra_column = 'dec': .*\('ra'\) beyond 90 .*\('dec'\) .*seem to be swapped"
    ):
        open_manifest(replace(config, ra_column="dec", dec_column="ra"), 3)


def test_a_few_bad_declinations_are_rows_without_position(tmp_path: Path) -> None:
    dec = np.linspace(-80, 80, 1000)
    dec[7] = 99.0
    pq.write_table(
        pa.table({"objid": np.arange(1000), "ra": np.linspace(0, 89, 1000), "dec": dec}), tmp_path / "t.parquet"
    )
    assert open_manifest(manifest_config(tmp_path / "t.parquet"), 100).with_position == 999
