"""Catalogs with the location of each cutout (`manifest.keep_image_uri`), from the manifest to its readers."""

import dataclasses
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import pyarrow as pa
import pytest
from astropy.io import votable
from astropy.table import Table

import galaxy_batch
from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.compare.compare import compare_catalogs
from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.config import ManifestConfig, ReportConfig
from galaxy_batch.errors import InputError
from galaxy_batch.export.config import ExportConfig
from galaxy_batch.export.export import export_catalog
from galaxy_batch.packing.plan import plan_pack
from galaxy_batch.packing.shards import pack_shard
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.review_queue.review_queue import make_queue
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import POSITIONS, catalog_config, pack_config
from tests.support.cutout_server import CutoutServer
from tests.support.models import SavedModel
from tests.support.release import page_of
from tests.support.skies import read_catalog

SERVICE = "cutout?id={object_id}&ra={ra}&dec={dec}&scale=0.4"


def made(survey: SurveyFiles, model: SavedModel, output: Path, template: str, **changed: Any) -> str:
    manifest = {"uri": str(survey.manifest), "uri_template": template, "keep_image_uri": True, **POSITIONS}
    settings = {"classify": {"chunk_rows": 100}, "report": {"enabled": False}, **changed}
    config = catalog_config(survey, model, output, manifest=manifest, **settings)
    uri: str = classify_release(plan_release(config), on_ray=False)["catalog_uri"]
    return uri


@pytest.fixture
def service(cutout_server: CutoutServer, survey: SurveyFiles) -> CutoutServer:
    """Cutouts by `id`, for those who have the token; a damaged one for objects without."""

    def answer(path: str) -> bytes:
        query = parse_qs(urlsplit(path).query)
        file = survey.images / f"{query['id'][0]}.jpg"
        return file.read_bytes() if query.get("token") == ["s3cret"] and file.exists() else b"no image"

    cutout_server.answer, cutout_server.slow_s = answer, 0
    return cutout_server


def test_locations_of_a_service_have_no_credentials(
    survey: SurveyFiles, saved_model: SavedModel, service: CutoutServer, tmp_path: Path
) -> None:
    catalog = made(survey, saved_model, tmp_path, f"{service.url}/{SERVICE}&token=s3cret")
    assert verify_catalog(catalog) == []
    rows = read_catalog(catalog)
    located = 0
    for row in rows.to_pylist():
        if row["image_uri"] is None:
            assert row["status"] == "refused"  # the template needs a position
        else:
            service_uri, _, query = row["image_uri"].partition("?")
            given = {name: values[0] for name, values in parse_qs(query).items()}
            assert service_uri == f"{service.url}/cutout"
            assert given.keys() == {"id", "ra", "dec", "scale"}
            assert int(given["id"]) == row["object_id"]
            assert (float(given["ra"]), float(given["dec"])) == pytest.approx((row["ra"], row["dec"]))
            located += 1
    assert located >= len(rows) - 3
    record = require_manifest(catalog).config["manifest"]
    assert record["uri_template"] == f"{service.url}/{SERVICE}"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if b"s3cret" in path.read_bytes()]


def test_every_reader_has_the_column_as_text(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    catalog = made(survey, saved_model, tmp_path, "images/{object_id}.jpg")
    assert verify_catalog(catalog) == []
    location = "{}/images/{}.jpg".format(survey.manifest.parent, "{}")
    names = read_catalog(catalog).column_names
    assert names[names.index("image_hash") + 1] == "image_uri"
    query = f"SELECT object_id, image_uri FROM '{catalog}/**/*.parquet'"
    assert all(uri == location.format(number) for number, uri in duckdb.sql(query).fetchall())
    (file, *_) = sorted(Path(catalog).glob("dataset/**/*.parquet"))
    table = Table.read(file, format="parquet.votable")
    assert table["image_uri"][0] == location.format(table["object_id"][0])
    for name in ("catalog.fits", "catalog.vot", "catalog.csv"):
        uri = str(tmp_path / name)
        export_catalog(ExportConfig(catalog, uri, columns=("object_id", "image_uri")))
        exported = Table.read(uri)
        assert [str(u) for u in exported["image_uri"]] == [location.format(n) for n in exported["object_id"]]
    described = votable.parse(str(tmp_path / "catalog.vot")).get_field_by_id_or_name("image_uri")
    assert described.ucd == "meta.ref.url;meta.file"


def test_catalogs_with_and_without_the_column_are_reused_and_compared(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path
) -> None:
    template = "images/{object_id}.jpg"
    plain = catalog_config(
        survey, saved_model, tmp_path / "plain", classify={"chunk_rows": 100}, report={"enabled": False}
    )
    without = classify_release(plan_release(plain), on_ray=False)["catalog_uri"]
    located = made(survey, saved_model, tmp_path / "a", template, reuse_from=without)
    reused = require_manifest(located).reuse or {}
    failed = require_manifest(without).failed
    assert (reused["reused"], reused["recomputed"]) == (40 - failed, failed)
    again = classify_release(
        plan_release(dataclasses.replace(plain, output_uri=str(tmp_path / "b"), reuse_from=located)), on_ray=False
    )
    assert (again["reuse"]["reused"], again["reuse"]["recomputed"]) == (40 - failed, failed)
    assert "image_uri" not in read_catalog(again["catalog_uri"]).column_names
    result = compare_catalogs(CompareConfig(old_uri=without, new_uri=located, output_uri=str(tmp_path / "compared")))
    assert (result.flipped, result.compared > 0) == (0, True)


def test_pages_link_the_cutouts_of_a_service(
    survey: SurveyFiles, saved_model: SavedModel, service: CutoutServer, tmp_path: Path
) -> None:
    """The template in the record has its query, so that the cutouts are found; without the token they are no images."""
    catalog = made(survey, saved_model, tmp_path, f"{service.url}/{SERVICE}&token=s3cret")
    locations = set(read_catalog(catalog)["image_uri"].to_pylist())
    _, shown = page_of(Path(catalog))
    assert len(locations & set(shown.links)) >= 4
    assert any("skyserver" in link for link in shown.links)
    lost = ManifestConfig(uri=str(tmp_path / "gone.csv"), uri_template="{object_id}")
    _, shown = page_of(Path(catalog), source=lost, config=ReportConfig(cutouts=2))
    assert len(locations & set(shown.links)) >= 2
    queue = make_queue(ReviewQueueConfig(catalog, name="q", uniform=5))
    html = Path(queue["page_uri"]).read_text()
    content = json.loads(html.partition('id="queue">')[2].partition("</script>")[0])
    assert {address for links in content["cutouts"] for _, address in links} <= locations
    assert [[name for name, _ in links] for links in content["cutouts"]] == [["cutout"]] * 5


def test_images_in_the_manifest_have_no_location(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    config = pack_config(survey, tmp_path / "packed")
    config = plan_pack(config).config
    manifest = ManifestConfig(
        str(survey.manifest), uri_template="images/{object_id}.jpg", keep_image_uri=True, **POSITIONS
    )
    plan = plan_pack(dataclasses.replace(config, manifest=manifest))
    shard = pa.Table.from_pylist([plan.todo[0].as_item()])
    pack_shard(shard, plan.config, plan.schema)
    packed = str(next((tmp_path / "packed").rglob("shard-*.parquet")))
    table = galaxy_batch.classify(packed, saved_model.uri, image_column="image", keep_columns=["image_uri"])
    assert table["image_uri"][0].as_py().endswith(f"/images/{table['object_id'][0]}.jpg")
    table = galaxy_batch.classify(packed, saved_model.uri, image_column="image", keep_image_uri=True)
    assert table["image_uri"].null_count == len(table)


def test_a_kept_column_of_that_name_is_in_the_way(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    manifest = {"uri": str(survey.manifest), "uri_template": "images/{object_id}.jpg", "keep_image_uri": True}
    config = catalog_config(survey, saved_model, tmp_path, manifest={**manifest, "keep_columns": ["ra as image_uri"]})
    with pytest.raises(InputError, match="the catalog has a column or path key 'image_uri'"):
        plan_release(config)
