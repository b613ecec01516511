"""What the documents say of a catalog."""

import math
from pathlib import Path

import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.sharing.config import ShareMetadata
from galaxy_batch.sharing.description import read_audits, read_columns, read_position, shown_uri
from tests.support.shared_catalogs import ABOUT, copied, described, write_audit
from tests.support.skies import manifest_with, read_catalog


def test_columns_come_with_units_and_ucds(sky_catalog: Path) -> None:
    columns = {column.name: column for column in read_columns(str(sky_catalog))}
    assert list(columns) == list(require_manifest(str(sky_catalog)).schema)
    assert (columns["dec"].unit, columns["dec"].ucd) == ("deg", "pos.eq.dec;meta.main")
    assert columns["dec"].shown_type == "float64"
    assert columns["confidence"].shown_type == "float32"


def test_a_position_of_an_object(sky_catalog: Path) -> None:
    position = read_position(str(sky_catalog), require_manifest(str(sky_catalog)))
    rows = read_catalog(sky_catalog)
    assert position in zip(rows["ra"].to_pylist(), rows["dec"].to_pylist(), strict=True)
    assert read_position(str(sky_catalog), manifest_with()) is None


def test_audits_of_this_catalog_are_read(sky_catalog: Path, tmp_path: Path) -> None:
    catalog = copied(sky_catalog, tmp_path)
    manifest = require_manifest(str(catalog))
    assert read_audits(str(catalog), manifest) == {}
    write_audit(catalog)
    assert read_audits(str(catalog), manifest)["verdicts"]["verdicts"] == 200
    write_audit(catalog, model_id="another")
    assert read_audits(str(catalog), manifest) == {}


def test_titles_and_addresses_have_defaults(sky_catalog: Path) -> None:
    nothing = described(sky_catalog, ShareMetadata())
    assert nothing.title == "Galaxy morphologies of made-up"
    assert nothing.version == "made-up"
    assert nothing.url is None
    assert "400 objects" in nothing.description
    assert described(sky_catalog).url == "https://doi.org/10.5281/zenodo.1234567"
    assert described(sky_catalog, to="hf://datasets/me/x/").url == "https://huggingface.co/datasets/me/x"
    assert described(sky_catalog, ShareMetadata(url="https://example.org")).url == "https://example.org"
    assert described(sky_catalog).title == ABOUT.title


def test_shares_are_of_the_rows_with_a_class(sky_catalog: Path) -> None:
    catalog = described(sky_catalog)
    rows = catalog.manifest.flag_counts["UNFAMILIAR"]
    assert catalog.flagged(ReviewFlag.UNFAMILIAR) == pytest.approx(rows / catalog.classified)
    assert not math.isnan(catalog.flagged(ReviewFlag.AUDIT))
    assert catalog.promised is not None
    assert catalog.promised.galaxies == 144


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("/home/me/objects.csv", "objects.csv"),
        ("file:///home/me/objects.csv", "objects.csv"),
        ("https://me:secret@host/objects.csv?sig=1", "https://host/objects.csv"),
        ("s3://bucket/objects.csv", "s3://bucket/objects.csv"),
    ],
)
def test_places_of_a_machine_and_credentials_are_not_shown(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown
