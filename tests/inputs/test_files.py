from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.inputs.files import manifest_files, manifest_folder, path_columns


def write(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"x": [1]}), folder / name)
    return [str(folder / name) for name in names]


def test_a_manifest_is_a_file_a_glob_or_a_folder(tmp_path: Path) -> None:
    both = write(tmp_path, "a.parquet", "b.PARQUET", "_metadata.parquet")[:2]
    assert manifest_files(str(tmp_path)) == both
    assert manifest_files(str(tmp_path / "[ab].*")) == both
    assert manifest_files(both[1]) == both[1:]
    with pytest.raises(InputError, match="no such file"):
        manifest_files(str(tmp_path / "c*.parquet"))


def test_folders_among_the_matches_of_a_glob_are_read(tmp_path: Path) -> None:
    files = write(tmp_path, "a.parquet", "spark.parquet/part-0.parquet", "spark.parquet/part-1.parquet")
    assert manifest_files(str(tmp_path / "*.parquet")) == files


@pytest.mark.parametrize("folder", ["dr9.0", "objects.parquet", "plain"])
def test_the_store_says_what_is_a_folder(tmp_path: Path, folder: str) -> None:
    (file,) = write(tmp_path, f"{folder}/0.parquet")
    assert manifest_folder(str(tmp_path / folder)) == str(tmp_path / folder)
    assert manifest_folder(f"{tmp_path / folder}/") == str(tmp_path / folder)
    assert manifest_folder(file) == str(tmp_path / folder)
    assert manifest_folder(str(tmp_path / folder / "*.parquet")) == str(tmp_path / folder)
    assert manifest_folder(f"{tmp_path}/**/*.parquet") == str(tmp_path)


def test_only_data_files_of_a_hats_catalog_are_read(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        "dataset/Norder=0/Dir=0/Npix=4.parquet",
        "dataset/Norder=1/Dir=0/Npix=17/part0.parquet",
        "without_position/part-000000.parquet",
        "dataset/data_thumbnail.parquet",
        "intermediate/rows.parquet",
    )[:3]
    assert manifest_files(str(tmp_path)) == files
    assert manifest_files(str(tmp_path / "dataset")) == files[:2]


def test_only_the_objects_of_a_hats_collection_are_read(tmp_path: Path) -> None:
    objects, _ = write(
        tmp_path, "objects/dataset/Norder=0/Dir=0/Npix=4.parquet", "margin/dataset/Norder=0/Dir=0/Npix=5.parquet"
    )
    (tmp_path / "collection.properties").write_text("obs_collection=x\nhats_primary_table_url = objects\n")
    assert manifest_files(str(tmp_path)) == [objects]
    (tmp_path / "collection.properties").write_text("obs_collection=x\n")
    with pytest.raises(InputError, match=r"collection\.properties names no folder"):
        manifest_files(str(tmp_path))


@pytest.mark.parametrize("name", ["hats.properties", "properties"])
@pytest.mark.parametrize("product", ["margin", "index"])
def test_margins_and_indexes_are_no_manifests(tmp_path: Path, name: str, product: str) -> None:
    files = write(tmp_path, "dataset/Norder=0/Dir=0/Npix=4.parquet", "dataset/index/part.0.parquet")
    (tmp_path / name).write_text(f"#HATS catalog\nobs_collection=x\ndataproduct_type={product}\n")
    with pytest.raises(InputError, match=f"of the type '{product}': give the folder of the catalog itself"):
        manifest_files(str(tmp_path))
    (tmp_path / name).write_text("dataproduct_type = object\n")
    assert manifest_files(str(tmp_path)) == files[:1]


def test_a_folder_of_several_hats_catalogs_is_refused(tmp_path: Path) -> None:
    write(tmp_path, *(f"{name}/dataset/Norder=0/Dir=0/Npix=4.parquet" for name in ("gz10", "gz10_10arcs")))
    with pytest.raises(InputError, match=r"holds several HATS catalogs: \S+/gz10, \S+/gz10_10arcs; give one"):
        manifest_files(str(tmp_path))
    assert len(manifest_files(str(tmp_path / "gz10"))) == 1


def test_a_collection_leads_to_a_folder_in_it(tmp_path: Path) -> None:
    write(tmp_path, "objects/dataset/Norder=0/Dir=0/Npix=4.parquet")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "collection.properties").write_text("hats_primary_table_url=../objects\n")
    with pytest.raises(InputError, match="names no folder"):
        manifest_files(str(tmp_path / "c"))


def test_paths_have_columns() -> None:
    assert path_columns("/d/Norder=5/Dir=10000/Npix=17.parquet") == {"Norder": 5, "Dir": 10000, "Npix": 17}
    uri = "s3://b/field=007/name=M%2031/x=__HIVE_DEFAULT_PARTITION__/0.parquet"
    assert path_columns(uri) == {"field": "007", "name": "M 31", "x": None}
    uri = "/d/catalog/without_position/part-000000.parquet"
    assert path_columns(uri) == {"Norder": None, "Dir": None, "Npix": None}
