"""Credentials are found in the manifest and in the survey's own columns."""

from pathlib import Path

import pyarrow as pa
import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.sharing.secrets import first_image_uri, secrets_in_rows, secrets_in_text
from tests.support.skies import publish_rows, sky_rows


@pytest.mark.parametrize(
    "uri",
    [
        "https://me:secret@host/objects.csv",
        "ftp://me@host/objects.csv",
        "https://bucket.s3.amazonaws.com/x?X-Amz-Credential=secret&X-Amz-Signature=secret",
        "https://account.blob.core.windows.net/x?sv=2024&sig=secret",
        "https://host/x?access_token=secret",
        "https://host/x?ra=1&AccessToken=secret",
        "https://host/x?password=secret",
        "https://host/x?key=secret",
        "https://host/x?layer=a;token=secret",
        "https://host/x?id=eyJhbGciOi.eyJzdWIi.secret",
        "s3://AKIAEXAMPLE:sec/secret@bucket/x",
        "zip://a.jpg::https://host/x.zip?sig=secret",
    ],
)
def test_credentials_in_addresses_are_found_and_not_shown(uri: str) -> None:
    (found,) = secrets_in_text(f'{{"survey": "{uri}", "run_id": "1"}}')
    assert "secret" not in found
    assert "me@" not in found


@pytest.mark.parametrize(
    "uri",
    ["s3://bucket/a@b.csv", "https://host:8080/x?ra=1&dec=2", "abfs://container@account/x", "/data/a:b@c/objects.csv",
     "https://host/x?NGC6976", "https://host/x?user=me&expires=2026", "zip://a@b.jpg::s3://bucket/x.zip"],
)  # fmt: skip
def test_other_addresses_have_none(uri: str) -> None:
    assert secrets_in_text(f'"{uri}"') == []


@pytest.mark.parametrize(
    ("address", "is_secret"),
    [
        ("https://host/{}.jpg?sig=secret", True),
        ("https://me:pw@host/{}.jpg", True),
        ("https://secret@host/{}.jpg", True),
        ("see https://host/{}.jpg?AccessToken=secret", True),
        ("https://host/cutout?{}&NGC6976", False),
        ("https://host/{}.jpg?px=64", False),
    ],
)
def test_columns_of_the_survey_are_searched(tmp_path: Path, address: str, is_secret: bool) -> None:
    rows = sky_rows(120, seed=2)
    addresses = [None] * 119 + [address.format(1)]
    rows = rows.append_column("address", pa.array(addresses)).append_column("note", pa.array(["a@b"] * 120))
    catalog = str(publish_rows(tmp_path, rows, max_rows=30))
    assert secrets_in_rows(catalog, require_manifest(catalog)) == (["address"] if is_secret else [])


@pytest.mark.parametrize("is_secret", [True, False])
def test_lists_structs_and_bytes_are_searched(tmp_path: Path, is_secret: bool) -> None:
    address = "https://host/a.jpg?sig=secret" if is_secret else "https://host/a.jpg?px=64"
    inner = pa.struct({"size": pa.int64(), "at": pa.list_(pa.string())})
    values: dict[str, tuple[object, pa.DataType]] = {
        "in_list": ([None, address], pa.list_(pa.string())),
        "in_fixed_list": ([address, None], pa.list_(pa.large_string(), 2)),
        "in_struct": ({"size": 1, "at": [address]}, inner),
        "in_list_of_structs": ([{"size": 1, "at": [address]}], pa.list_(inner)),
        "in_map_key": ([(address, 1)], pa.map_(pa.string(), pa.int64())),
        "in_map": ([("place", address)], pa.map_(pa.string(), pa.string())),
        "in_bytes": (address.encode() + b"\xff", pa.binary()),
        "in_fixed_bytes": (address.encode(), pa.binary(len(address))),
    }
    rows = sky_rows(40, seed=2)
    for name, (value, kind) in values.items():
        rows = rows.append_column(name, pa.array([None] * 39 + [value], kind))
    rows = rows.append_column("sizes", pa.array([[1.0]] * 40))
    catalog = str(publish_rows(tmp_path, rows))
    assert secrets_in_rows(catalog, require_manifest(catalog)) == (sorted(values) if is_secret else [])


def test_the_location_of_a_cutout(sky_catalog: Path, classified: Path) -> None:
    assert first_image_uri(str(sky_catalog), require_manifest(str(sky_catalog))) is None
    place = first_image_uri(str(classified), require_manifest(str(classified)))
    assert place is not None
    assert place.endswith(".jpg")
