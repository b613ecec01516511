"""Shards, without Ray: content, missing images, and checks."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from galaxy_batch.config import ManifestConfig
from galaxy_batch.inputs.manifest import Manifest, open_manifest, read_objects
from galaxy_batch.packing import shards
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.packing.plan import plan_pack
from galaxy_batch.packing.shards import Shard, check_shard, finished_shards, pack_shard, shard_schema
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.s3_server import S3
from train.config import LabelConfig, NetworkConfig, TrainConfig
from train.data.galaxies import load_part, read_galaxies

BIG = 1237648720693755918


def item(shard: Shard) -> pa.Table:
    return pa.Table.from_pylist([shard.as_item()])


def opened(config: PackConfig) -> tuple[Manifest, pa.Schema]:
    manifest = open_manifest(config.manifest, config.row_group_rows)
    return manifest, shard_schema(manifest.id_type, manifest.kept)


def pack(config: PackConfig, chunks_each: int = 3) -> list[dict[str, Any]]:
    """Write all shards in this process; the results of `pack_shard`."""
    manifest, schema = opened(config)
    groups = [manifest.chunks[i : i + chunks_each] for i in range(0, len(manifest.chunks), chunks_each)]
    said = [pack_shard(item(Shard(index, chunks)), config, schema) for index, chunks in enumerate(groups)]
    return pa.concat_tables(said).to_pylist()


def of_table(table: pa.Table, folder: Path, **manifest: Any) -> PackConfig:
    pq.write_table(table, folder / "objects.parquet")
    defaults = {"id_column": "id", "uri_template": "{id}.jpg"}
    return PackConfig(
        str(folder / "packed"),
        ManifestConfig(str(folder / "objects.parquet"), **{**defaults, **manifest}),
        row_group_rows=4,
    )


def files_for(ids: list[Any], folder: Path) -> None:
    for i in ids:
        (folder / f"{i}.jpg").write_bytes(f"bytes of {i}".encode())


def test_bytes_and_ids_of_real_cutouts_are_exact(sky: Path, tmp_path: Path) -> None:
    objects = pacsv.read_csv(
        sky / "sdss_dr7" / "objects.csv",
        convert_options=pacsv.ConvertOptions(column_types={"dr7objid": pa.string()}),
    )
    config = PackConfig(
        str(tmp_path),
        ManifestConfig(
            str(sky / "sdss_dr7" / "objects.csv"), "dr7objid", "ra", "dec",
            uri_template="images/{dr7objid}.jpeg", keep_columns=("gz1_class",),
        ),
        row_group_rows=100,
    )  # fmt: skip
    pack(config)
    packed = pq.read_table(tmp_path / "shards")
    assert len(packed) == 1140
    assert packed["object_id"].type == pa.int64()
    assert packed["object_id"].cast(pa.string()).to_pylist() == objects["dr7objid"].to_pylist()
    for name in ("ra", "dec", "gz1_class"):
        assert packed[name].to_pylist() == objects[name].to_pylist()
    files = [sky / "sdss_dr7" / "images" / f"{i}.jpeg" for i in objects["dr7objid"].to_pylist()]
    assert packed["image"].to_pylist() == [file.read_bytes() for file in files]
    assert set(packed["status"].to_pylist()) == {"ok"}
    assert packed["error"].null_count == 1140
    query = f"SELECT count(DISTINCT object_id), sum(octet_length(image)) FROM '{tmp_path}/shards/*.parquet'"
    assert duckdb.sql(query).fetchall() == [(1140, sum(file.stat().st_size for file in files))]


@pytest.mark.parametrize("ids", [[BIG + i for i in range(10)], [f"J00{i}" for i in range(10)]], ids=["int64", "text"])
def test_layout_of_a_shard(tmp_path: Path, ids: list[Any]) -> None:
    files_for(ids, tmp_path)
    kept = {
        "Class1.1": pa.array([i / 10 for i in range(10)]),
        "bands": pa.array([[{"band": "r", "mag": float(i)}] for i in range(10)]),
        "field": pa.array(["x", "y"] * 5).dictionary_encode(),
        "seen": pa.array(pd.date_range("2026-01-01", periods=10).as_unit("s")),
    }
    table = pa.table({"id": ids, **kept})
    pack(of_table(table, tmp_path, keep_columns=tuple(kept)))
    assert sorted(path.name for path in (tmp_path / "packed" / "shards").iterdir()) == ["shard-000000.parquet"]
    file = pq.ParquetFile(tmp_path / "packed" / "shards" / "shard-000000.parquet")
    names = ["object_id", "ra", "dec", "image", "status", "error", *kept]
    assert file.schema_arrow.names == names
    assert file.schema_arrow.field("image").type == pa.large_binary()
    assert file.schema_arrow.field("object_id").type == (pa.int64() if isinstance(ids[0], int) else pa.string())
    assert file.schema_arrow.field("ra").metadata[b"unit"] == b"deg"
    assert [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] == [4, 4, 2]
    group = file.metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    image = columns.pop("image")
    assert (image.compression, image.is_stats_set, image.has_dictionary_page) == ("UNCOMPRESSED", False, False)
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert columns["object_id"].statistics.min == ids[0]
    read = file.read()
    assert read["object_id"].to_pylist() == ids
    assert read["image"].to_pylist() == [f"bytes of {i}".encode() for i in ids]
    for name in kept:
        assert read[name].to_pylist() == table[name].to_pylist()
    assert read["ra"].null_count == 10


def test_missing_images_keep_their_row_and_an_error(tmp_path: Path) -> None:
    files_for([1, 2, 4], tmp_path)
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "4.jpg").write_bytes(b"x" * 5000)
    table = pa.table({"id": [1, 2, 3, 4, 5], "file": ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "../5.jpg"]})
    config = of_table(table, tmp_path, uri_template=None, image_column="file")
    (said,) = pack(dataclasses.replace(config, max_image_bytes=4999))
    assert (said["rows"], said["lost"]) == (5, None)
    assert json.loads(said["status_counts"]) == {"ok": 2, "missing": 1, "too_large": 1, "refused": 1}
    packed = pq.read_table(tmp_path / "packed" / "shards")
    assert packed["image"].to_pylist() == [b"bytes of 1", b"", None, None, None]
    assert packed["status"].to_pylist() == ["ok", "ok", "missing", "too_large", "refused"]
    assert [error is None for error in packed["error"].to_pylist()] == [True, True, False, False, False]


def test_a_shard_with_an_unreachable_cutout_is_not_written(tmp_path: Path) -> None:
    files_for(list(range(10)), tmp_path)
    for i in (5, 7):
        (tmp_path / f"{i}.jpg").unlink()
        (tmp_path / f"{i}.jpg").symlink_to("/proc/self/mem")  # the file system gives an error, and no file
    config = of_table(pa.table({"id": list(range(10))}), tmp_path)
    said = pack(config, chunks_each=1)
    assert [(s["rows"], json.loads(s["status_counts"]).get("unreachable", 0)) for s in said] == [(4, 0), (0, 2), (2, 0)]
    assert said[1]["lost"] == "object_id 5, OSError"
    assert finished_shards(config.output_uri) == {0, 2}
    kept = dataclasses.replace(config, output_uri=str(tmp_path / "kept"), keep_unreachable=True)
    assert [s["rows"] for s in pack(kept, chunks_each=1)] == [4, 4, 2]
    packed = pq.read_table(tmp_path / "kept" / "shards")
    assert packed["status"].to_pylist()[4:8] == ["ok", "unreachable", "ok", "unreachable"]
    assert packed["image"].to_pylist()[4:8] == [b"bytes of 4", None, b"bytes of 6", None]
    for i in (5, 7):
        (tmp_path / f"{i}.jpg").unlink()
    files_for([5, 7], tmp_path)
    pack(config, chunks_each=1)
    packed = pq.read_table(tmp_path / "packed" / "shards")
    assert packed["image"].to_pylist() == [f"bytes of {i}".encode() for i in range(10)]


def test_equal_images_give_equal_files_and_other_images_others(tmp_path: Path) -> None:
    files_for(list(range(10)), tmp_path)
    config = of_table(pa.table({"id": list(range(10))}), tmp_path)
    file = tmp_path / "packed" / "shards" / "shard-000000.parquet"
    pack(config)
    first = file.read_bytes()
    pack(config)
    assert file.read_bytes() == first
    (tmp_path / "3.jpg").write_bytes(b"Bytes of 3")
    pack(config)
    footer = pq.ParquetFile(io.BytesIO(first)).metadata.metadata[b"galaxy_batch.images"]
    assert pq.ParquetFile(file).metadata.metadata[b"galaxy_batch.images"] != footer


def test_only_complete_shards_count_as_finished(tmp_path: Path) -> None:
    assert finished_shards(str(tmp_path)) == set()
    (tmp_path / "shards").mkdir()
    for name in ("shard-000007.parquet", "shard-1000000.parquet", ".tmp-shard-000001.parquet-x", "shard-2.tmp", "a"):
        (tmp_path / "shards" / name).write_bytes(b"")
    assert finished_shards(str(tmp_path)) == {7, 1_000_000}


def rewritten(file: Path, **columns: Any) -> None:
    table = pq.read_table(file)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))
    pq.write_table(table, file, row_group_size=4)


def test_problems_of_shards_are_detected(tmp_path: Path) -> None:
    files_for(list(range(10)), tmp_path)
    config = of_table(pa.table({"id": list(range(10))}), tmp_path)
    manifest, schema = opened(config)
    shard = Shard(0, manifest.chunks)
    file = tmp_path / "packed" / "shards" / "shard-000000.parquet"

    def checked() -> dict[str, Any]:
        (said,) = check_shard(item(shard), config, schema).to_pylist()
        return said

    def problem() -> Any:
        return checked()["problem"]

    assert problem() == "is missing"
    pack(config)
    content = file.read_bytes()
    said = checked()
    assert (said["problem"], said["rows"], said["bytes"], json.loads(said["status_counts"])) == (
        None, 10, len(content), {"ok": 10},
    )  # fmt: skip
    file.write_bytes(content[:-9])
    assert problem().startswith("cannot be read as Parquet")
    file.write_bytes(b"")
    assert problem().startswith("cannot be read as Parquet")
    file.write_bytes(content)
    rewritten(file, object_id=[0, 1, 2, 3, 4, 5, 6, 7, 9, 8])
    assert problem() == "row group 2: the ids are not the manifest's"
    file.write_bytes(content)
    rewritten(file, image=[None, *[b"x"] * 9])
    assert problem() == "row group 0: image and status disagree"
    pq.write_table(pq.read_table(io.BytesIO(content)).slice(0, 8), file, row_group_size=4)
    assert problem() == "has 8 rows in 2 row groups, not 10 in 3"
    pq.write_table(pq.read_table(io.BytesIO(content)).drop_columns(["error"]), file, row_group_size=4)
    assert problem().startswith("has the columns object_id, ra, dec, image, status, not object_id")


def test_shards_can_be_used_as_a_manifest(survey: SurveyFiles, tmp_path: Path) -> None:
    template = {"ra_column": "ra", "dec_column": "dec", "uri_template": "images/{object_id}.jpg"}
    pack(PackConfig(str(tmp_path / "a"), ManifestConfig(str(survey.manifest), **template), row_group_rows=7))
    of_files = read_objects(ManifestConfig(str(survey.manifest), **template))
    embedded = {"ra_column": "ra", "dec_column": "dec", "image_column": "image"}
    again = ManifestConfig(f"{tmp_path}/a/shards/*.parquet", **embedded)
    of_shards = read_objects(again)
    for name in ("object_id", "ra", "dec", "_healpix_29"):
        assert of_shards[name].equals(of_files[name]) or of_shards[name].to_pylist() == of_files[name].to_pylist()
    pack(PackConfig(str(tmp_path / "b"), again, row_group_rows=7))
    assert pq.read_table(tmp_path / "b" / "shards")["image"].equals(pq.read_table(tmp_path / "a" / "shards")["image"])


def test_training_on_shards_equals_training_on_files(survey: SurveyFiles, tmp_path: Path) -> None:
    votes = ("Class1.1", "Class1.2", "Class1.3")
    files = ManifestConfig(str(survey.votes), "GalaxyID", uri_template="images/{GalaxyID}.jpg")
    pack(PackConfig(str(tmp_path), dataclasses.replace(files, keep_columns=votes), row_group_rows=16), chunks_each=2)
    packed = ManifestConfig(f"{tmp_path}/shards/*.parquet", image_column="image")
    parts = []
    for galaxies in (files, packed):
        config = TrainConfig(
            str(tmp_path / "model"), galaxies, LabelConfig(threshold=0.6),
            network=NetworkConfig(architecture="test_efficientnet", weights="random", size_px=64), threads=1,
        )  # fmt: skip
        table, labels = read_galaxies(config)
        everything = pd.RangeIndex(len(table)).to_numpy()
        parts.append((labels, load_part(config, table, labels, everything, learns=True)))
    (labels_of_files, of_files), (labels_of_shards, of_shards) = parts
    assert (labels_of_files.label == labels_of_shards.label).all()
    assert len(of_files.rows) > 10
    assert (of_files.rows == of_shards.rows).all()
    assert of_files.examples.pixels.equal(of_shards.examples.pixels)
    assert of_files.examples.targets.equal(of_shards.examples.targets)
    assert of_files.unusable == of_shards.unusable


@pytest.mark.slow
def test_large_images_fit_into_parquet_pages() -> None:
    """One row group of 2.4 GiB: with pages of many rows this overflows."""
    schema = shard_schema(pa.int64())
    image = b"x" * (6 << 20)
    rows = 400
    columns = {
        "object_id": list(range(rows)), "ra": [None] * rows, "dec": [None] * rows, "image": [image] * rows,
        "status": ["ok"] * rows, "error": [None] * rows,
    }  # fmt: skip

    class Counting(io.RawIOBase):
        size = 0

        def writable(self) -> bool:
            return True

        def tell(self) -> int:
            return self.size

        def write(self, data: Any) -> int:
            self.size += len(data)
            return len(data)

    sink = Counting()
    table = pa.table([pa.array(columns[f.name]).cast(f.type) for f in schema], schema=schema)
    with shards._writer(sink, schema) as writer:
        writer.write_table(table, row_group_size=rows)
    assert sink.size > rows * len(image)


@pytest.mark.parametrize("size", [1, (2 << 30) + 1])
def test_shard_bytes_is_limited(size: int) -> None:
    values = {"output_uri": "x", "manifest": {"uri": "a.csv", "uri_template": "{object_id}"}}
    assert parse_config(PackConfig, values).shard_bytes == 256 << 20
    with pytest.raises(ValueError, match="shard_bytes"):
        parse_config(PackConfig, values, [f"shard_bytes={size}"])


def test_shards_on_an_object_store(s3: S3, survey: SurveyFiles, tmp_path: Path) -> None:
    for file in (survey.manifest, *survey.images.iterdir()):
        s3.put(file.name if file == survey.manifest else f"images/{file.name}", file.read_bytes())
    objects = ManifestConfig(f"{s3.uri}/objects.csv", uri_template="images/{object_id}.jpg")
    config = PackConfig(f"{s3.uri}/packed", objects, row_group_rows=8)
    plan = plan_pack(config)
    assert [shard.index for shard in plan.todo] == [0]
    said = pack(config)
    names = ["packed/shards/shard-000000.parquet", "packed/shards/shard-000001.parquet"]
    assert [name for name in s3.names() if name.startswith("packed/")] == names
    assert [len(s3.get(name)) for name in names] == [s["bytes"] for s in said]
    assert finished_shards(config.output_uri) == {0, 1}
    local_objects = ManifestConfig(str(survey.manifest), uri_template="images/{object_id}.jpg")
    pack(dataclasses.replace(config, output_uri=str(tmp_path), manifest=local_objects))
    local = [(tmp_path / name.removeprefix("packed/")).read_bytes() for name in names]
    assert [s3.get(name) for name in names] == local, "the same bytes as from files on a disk"
    read = read_objects(ManifestConfig(f"{s3.uri}/packed/shards/*.parquet", image_column="image"))
    assert read["_image_bytes"].to_pylist() == pq.read_table(tmp_path / "shards")["image"].to_pylist()
    manifest, schema = opened(config)
    checked = check_shard(item(Shard(0, manifest.chunks[:3])), config, schema)
    assert checked["problem"].to_pylist() == [None]
