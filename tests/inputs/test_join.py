import gzip
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.config import JoinConfig, ManifestConfig
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.manifest import find_objects, open_manifest, read_objects
from tests.support.manifests import manifest_rows

BIG = 587722981750865959
VOTES = (
    f"dr7objid,ra,dec,sample,smooth\n{BIG},180,1,original,0.5\n{BIG + 1},181,2,extra,0.25\n{BIG + 2},182,3,stripe82,1\n"
)
MAPPING = f"objid,sample,asset_id\n{BIG + 1},extra,12\n{BIG},original,11\n{BIG + 9},original,99\n"


def published(folder: Path, mapping: str = MAPPING, **settings: Any) -> ManifestConfig:
    """Votes, file names and images in three files, as Galaxy Zoo 2 is published."""
    with gzip.open(folder / "votes.csv.gz", "wt") as file:
        file.write(VOTES)
    (folder / "mapping.csv").write_text(mapping)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for asset in (11, 12, 99):
            archive.writestr(f"images/{asset}.jpg", f"image {asset}")
    join = JoinConfig(str(folder / "mapping.csv"), "objid", ("asset_id",), only=settings.pop("only", {}))
    about = {
        "uri": str(folder / "votes.csv.gz"), "id_column": "dr7objid", "ra_column": "ra", "dec_column": "dec",
        "uri_template": "zip://images/{asset_id}.jpg::images.zip", "keep_columns": ("smooth",), "join": join,
    }  # fmt: skip
    return ManifestConfig(**{**about, **settings})


def test_file_names_come_from_a_second_table(tmp_path: Path) -> None:
    config = published(tmp_path)
    rows = fetch_cutouts(manifest_rows(config, chunk_rows=2), 1000)
    assert rows["object_id"].to_pylist() == [BIG, BIG + 1, BIG + 2]
    assert rows["_image_bytes"].to_pylist() == [b"image 11", b"image 12", None]
    assert rows["status"].to_pylist() == ["ok", "ok", "missing"]
    assert rows["smooth"].to_pylist() == [0.5, 0.25, 1.0]
    found = find_objects(config, pa.array([BIG + 1]))
    assert found["_image_uri"].to_pylist() == [f"zip://images/12.jpg::{tmp_path}/images.zip"]


def test_a_parquet_table_gives_the_same_rows(tmp_path: Path) -> None:
    from_csv = published(tmp_path)
    votes = pa.table({"dr7objid": [str(BIG), str(BIG + 1), str(BIG + 2)], "ra": [180.0, 181, 182], "dec": [1.0, 2, 3],
                      "smooth": [0.5, 0.25, 1.0]})  # fmt: skip
    pq.write_table(votes, tmp_path / "votes.parquet", row_group_size=1)
    from_parquet = published(tmp_path, uri=str(tmp_path / "votes.parquet"))
    rows, same = manifest_rows(from_csv, 2), manifest_rows(from_parquet, 2)
    assert same["object_id"].to_pylist() == [str(i) for i in rows["object_id"].to_pylist()]
    assert same.drop_columns(["object_id"]).equals(rows.drop_columns(["object_id"]))
    found = find_objects(from_parquet, pa.array([str(BIG)]))
    assert found["_image_uri"].to_pylist() == [f"zip://images/11.jpg::{tmp_path}/images.zip"]


def test_a_folder_gets_positions_and_votes(tmp_path: Path) -> None:
    published(tmp_path)
    for name in (BIG, BIG + 1, 5):
        (tmp_path / "cutouts").mkdir(exist_ok=True)
        (tmp_path / "cutouts" / f"{name}.jpg").touch()
    join = JoinConfig(str(tmp_path / "votes.csv.gz"), "dr7objid", ("ra", "dec", "smooth"))
    config = ManifestConfig(
        str(tmp_path / "cutouts"), ra_column="ra", dec_column="dec", keep_columns=("smooth",), join=join
    )
    rows = read_objects(config).select(["object_id", "ra", "dec", "smooth"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("5", None, None, None), (str(BIG), 180.0, 1.0, 0.5), (str(BIG + 1), 181.0, 2.0, 0.25),
    ]  # fmt: skip


def test_the_content_id_follows_the_used_values_of_both_tables(tmp_path: Path) -> None:
    before = open_manifest(published(tmp_path), 10).content_id
    assert open_manifest(published(tmp_path, MAPPING + "3,original,3\n"), 10).content_id == before
    assert open_manifest(published(tmp_path, MAPPING.replace(",11", ",99")), 10).content_id != before


def test_several_rows_of_a_key(tmp_path: Path) -> None:
    same = f"{BIG},coadd,11\n"
    assert open_manifest(published(tmp_path, MAPPING + same), 10).rows == 3
    other = f"{BIG},coadd,99\n"
    problem = rf"manifest\.join\.id_column = 'objid': 1 rows differ .*{BIG} \(rows 2 and 4\)"
    with pytest.raises(InputError, match=problem):
        open_manifest(published(tmp_path, MAPPING + other), 10)
    for values, asset in ((("coadd", "original", "extra"), 99), (("original", "extra", "coadd"), 11)):
        rows = read_objects(published(tmp_path, MAPPING + other, only={"sample": values}))
        assert rows["_image_uri"][0].as_py().startswith(f"zip://images/{asset}.jpg")
    rows = read_objects(published(tmp_path, MAPPING + other, only={"sample": ("original",)}))
    assert [bool(uri) for uri in rows["_image_uri"].to_pylist()] == [True, False, False]
    with pytest.raises(InputError, match=r"rows 2 and 4"):  # `only` does not choose between two of its own
        open_manifest(published(tmp_path, MAPPING + f"{BIG},original,99\n", only={"sample": ("original",)}), 10)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"join": JoinConfig("{}/none.csv", "objid", ("asset_id",))}, r"manifest\.join\.uri = .*no such file"),
        (
            {"join": JoinConfig("{}/mapping.csv", "id", ("asset_id",))},
            r"manifest\.join\.id_column = 'id': no such column",
        ),
        (
            {"join": JoinConfig("{}/mapping.csv", "objid", ("asset",))},
            r"manifest\.join\.columns = 'asset': no such column",
        ),
        ({"join": JoinConfig("{}/mapping.csv", "asset_id", ("asset_id",))}, r"no object has a row in .*keys are"),
        ({"join": JoinConfig("{}/mapping.csv", "objid", ("asset_id",), "key")}, r"manifest\.join\.key_column = 'key'"),
        ({"only": {"sample": ("none",)}}, r"manifest\.join\.only\.sample = .*there are: extra, original"),
    ],
)
def test_joins_that_cannot_be_made_say_why(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    if "join" in change:
        join = change["join"]
        settings = {**vars(join), "uri": join.uri.format(tmp_path)}
        change = {"join": JoinConfig(**settings), "uri_template": f"{{{join.columns[0]}}}"}
    with pytest.raises(InputError, match=problem):
        open_manifest(published(tmp_path, **change), 10)


def test_the_ids_are_those_of_the_first_table() -> None:
    with pytest.raises(InputError, match=r"manifest\.join\.columns = 'objid': the ids are in the first table"):
        ManifestConfig("a.csv", id_column="objid", uri_template="{objid}", join=JoinConfig("b.csv", "x", ("objid",)))
