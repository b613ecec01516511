import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table

from galaxy_batch.config import ManifestConfig
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.manifest import find_objects, open_manifest, read_objects
from tests.support.s3_server import S3

ODD = "a b+#?%20é[x]"


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def ids(uri: Path | str, **settings: object) -> list[str]:
    rows = read_objects(ManifestConfig(str(uri), **settings))  # type: ignore[arg-type]
    fetched = fetch_cutouts(rows, 1000)
    assert fetched["status"].to_pylist() == ["ok"] * len(rows)
    names: list[str] = rows["object_id"].to_pylist()
    return names


def test_a_folder_a_glob_and_an_archive_are_manifests(tmp_path: Path) -> None:
    folder = tmp_path / "my cutouts [v2]"
    write(folder, f"{ODD}.jpg", "007.PNG", "m.fits.gz", "notes.txt", ".hidden.jpg", "Thumbs.db", "__MACOSX/x.jpg")
    write(folder, "sub/deep.webp", "sub/._deep.webp")
    assert ids(folder) == ["007", ODD, "m"]
    assert ids(folder, recursive=True) == ["007", ODD, "m", "deep"]
    assert ids(tmp_path / "my*" / "*.[jp]*", id_column="name") == [ODD]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))
    assert ids(tmp_path / "x.zip") == ["007", ODD, "m", "deep"]


def test_ids_are_text_unless_integers_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "587722981750865959.jpg", "12.jpg")
    assert ids(tmp_path) == ["12", "587722981750865959"]
    assert ids(tmp_path, integer_ids=True) == [12, 587722981750865959]


def test_a_prefix_of_an_object_store_is_listed_once(s3: S3) -> None:
    for name in (f"run/{ODD}.jpg", "run/b.jpg", "run/sub/c.jpg"):
        s3.put(name, b"content")
    s3.proxy.forget()
    assert ids(f"{s3.uri}/run/", recursive=True) == [ODD, "b", "c"]
    assert len([r for r in s3.proxy.requests if "list-type" in r.query]) == 1
    assert ids(f"{s3.uri}/run") == [ODD, "b"]
    assert ids(f"{s3.uri}/run/b.jpg") == ["b"]
    with pytest.raises(InputError, match="no such file or folder"):
        open_manifest(ManifestConfig(f"{s3.uri}/none", recursive=True), 10)
    with pytest.raises(InputError, match="a web server has no listing"):
        open_manifest(ManifestConfig(s3.http_url), 10)


def test_the_content_id_follows_the_files(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.jpg")

    def content_id() -> str:
        return open_manifest(ManifestConfig(str(tmp_path)), 1).content_id

    before = content_id()
    assert content_id() == before
    os.utime(tmp_path / "b.jpg", (1, 1))
    touched = content_id()
    (tmp_path / "b.jpg").write_bytes(b"longer than before")
    os.utime(tmp_path / "b.jpg", (1, 1))
    longer = content_id()
    write(tmp_path, "c.jpg")
    assert len({before, touched, longer, content_id()}) == 4


def test_chunks_columns_and_single_objects(tmp_path: Path) -> None:
    write(tmp_path, *(f"{n}.jpg" for n in range(5)))
    config = ManifestConfig(str(tmp_path), keep_columns=("file", "size_bytes"))
    manifest = open_manifest(config, 2)
    assert [chunk.rows for chunk in manifest.chunks] == [2, 2, 1]
    assert (manifest.id_type, manifest.with_position) == (pa.string(), 0)
    assert read_objects(config).select(["file", "size_bytes"]).to_pylist()[3] == {"file": "3.jpg", "size_bytes": 5}
    assert find_objects(config, pa.array(["4", "none"]))["_image_uri"].to_pylist() == [f"{tmp_path}/4.jpg"]
    with pytest.raises(InputError, match=r"manifest\.ra_column = 'ra': no such column"):
        open_manifest(ManifestConfig(str(tmp_path), ra_column="ra", dec_column="dec"), 2)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["a.jpg", "sub/a.png"], r"1 ids, .* belong to several files: a: a\.jpg, sub/a\.png\. Rename"),
        (["a.jpg", "b.jpg", "objects.csv.gz"], r"holds a table, objects\.csv\.gz.* uri_template = '\{ID\}\.jpg'"),
        (["notes.txt", "sub/readme"], r"holds no images: 2 other files \(notes\.txt, sub/readme\)"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_used_say_why(tmp_path: Path, names: list[str], problem: str) -> None:
    write(tmp_path, *names)
    with pytest.raises(InputError, match=problem):
        open_manifest(ManifestConfig(str(tmp_path), recursive=True), 10)


def test_names_that_are_not_utf_8_are_named(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"x")
    with pytest.raises(InputError, match=r"1 file names are not UTF-8: 'caf\\udce9\.jpg'\. Rename"):
        open_manifest(ManifestConfig(str(tmp_path)), 10)


def test_folders_below_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images: no file matches"):
        open_manifest(ManifestConfig(f"{tmp_path}/*.jpg"), 10)
    with pytest.raises(InputError, match="holds no images: it is empty"):
        open_manifest(ManifestConfig(str(tmp_path)), 10)
    write(tmp_path, "images/a.jpg")
    with pytest.raises(InputError, match=r"1 folders \(images\); set recursive = true"):
        open_manifest(ManifestConfig(str(tmp_path)), 10)
    write(tmp_path, "objects.csv")
    with pytest.raises(InputError, match=r"uri_template = 'images/\{ID\}\.jpg'"):
        open_manifest(ManifestConfig(str(tmp_path)), 10)


def test_a_fits_table_among_images_is_a_table(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "b.jpg")
    fits.PrimaryHDU([[1.0]]).writeto(tmp_path / "image.fits")
    assert len(open_manifest(ManifestConfig(str(tmp_path)), 10).chunks) == 1
    Table({"objid": [1]}).write(tmp_path / "casjobs.fits")
    with pytest.raises(InputError, match=r"holds a table, casjobs\.fits"):
        open_manifest(ManifestConfig(str(tmp_path)), 10)


def test_a_table_still_needs_to_know_its_images() -> None:
    for uri in ("objects.csv", "s3://b/objects.parquet", "objects.fits", "*.parquet", "objects.vot.gz"):
        with pytest.raises(InputError, match="give exactly one of image_column, uri_template and band_templates"):
            ManifestConfig(uri)
    assert ManifestConfig("*.fits").lists_images
