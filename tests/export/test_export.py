"""Exports of a catalog, compared with a search of all its rows."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from galaxy_batch.catalog.hats import pixel_of
from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.errors import InputError
from galaxy_batch.export import export
from galaxy_batch.export.config import ExportConfig
from galaxy_batch.export.export import export_catalog, file_ranges
from galaxy_batch.rows import CATALOG_COLUMNS, question_columns
from galaxy_batch.settings import parse_config
from galaxy_batch.sky.cone import Cone
from galaxy_batch.sky.healpix import Tile
from jobs.arguments import CommandLine
from jobs.command import run_job
from jobs.export_catalog import export_catalog as job
from tests.support.jobs import CallJob
from tests.support.s3_server import S3
from tests.support.skies import even_positions, publish_rows, read_catalog, sky_rows
from tests.support.votes import FEW_QUESTIONS, with_votes

ROWS = 3000
CONES = [
    Cone(0, 90, 0.5), Cone(123, 89.9, 1), Cone(200, -90, 10), Cone(0, 0, 0.2), Cone(359.95, 0.05, 0.25),
    Cone(45, 20, 8), Cone(10, -30, 180),
]  # fmt: skip


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of the rows in clumps at the north pole and across RA 0; some without a position; one kept column."""
    rng = np.random.default_rng(9)
    ra, dec = even_positions(ROWS, rng)
    ra[500:1200], dec[500:1200] = rng.uniform(0, 360, 700), 90 - np.abs(rng.normal(0, 0.5, 700))
    ra[1200:1900], dec[1200:1900] = rng.normal(0, 0.2, 700) % 360, rng.normal(0, 0.2, 700)
    rows = sky_rows(ROWS, seed=9, positions=(ra, dec), without_position=0.03)
    z = pa.field("z", pa.float32(), metadata={"description": "Redshift", "ucd": "src.redshift"})
    rows = rows.append_column(z, pa.array(rng.random(ROWS).astype(np.float32), mask=rng.random(ROWS) < 0.3))
    return publish_rows(tmp_path_factory.mktemp("export") / "release=r" / "model=m", rows, 1000, 300, 2500)


@pytest.fixture(scope="module")
def rows(catalog: Path) -> pa.Table:
    return read_catalog(catalog)


def within(rows: pa.Table, cone: Cone) -> npt.NDArray[np.bool_]:
    positions = SkyCoord(rows["ra"].to_numpy() * u.deg, rows["dec"].to_numpy() * u.deg)
    return np.asarray(positions.separation(SkyCoord(cone.ra * u.deg, cone.dec * u.deg)).deg <= cone.radius_deg)


def read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype_backend="numpy_nullable")


@pytest.mark.parametrize("cone", CONES, ids=str)
def test_a_cone_equals_a_search_of_all_rows(catalog: Path, rows: pa.Table, cone: Cone, tmp_path: Path) -> None:
    wanted = rows.filter(pa.array(within(rows, cone)))
    summary = export_catalog(ExportConfig(str(catalog), str(tmp_path / "x.csv"), cone=cone))
    assert summary["rows"] == len(wanted) > 3
    exported = read_csv(tmp_path / "x.csv").sort_values("object_id")
    for name in ("object_id", "image_hash", "review_flags", "_healpix_29", "predicted_class"):
        values = exported[name].astype(object).where(exported[name].notna(), None)
        assert values.tolist() == wanted[name].to_pylist(), name


def test_a_cone_reads_only_the_files_that_overlap_it(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = require_manifest(str(catalog)).files
    opened: list[str] = []

    def counted(uri: str, path: str, read: Any, real: Any = export.read_file) -> Any:
        opened.append(path)
        return real(uri, path, read)

    monkeypatch.setattr(export, "read_file", counted)
    summary = export_catalog(ExportConfig(str(catalog), str(tmp_path / "x.csv"), cone=Cone(200, -88, 1)))
    assert len(opened) == summary["files_read"] <= 3 < len(files) / 5
    assert not any("without_position" in path for path in opened)
    with_rows = [file.path for file in file_ranges(files, Cone(0, 0, 180))]
    assert len(with_rows) == sum(file.path.startswith("dataset/") for file in files)


def test_files_are_in_the_order_of_the_sky(catalog: Path) -> None:
    files = file_ranges(require_manifest(str(catalog)).files, None)
    first_keys = [Tile(*pixel, 0).first_key for pixel in map(pixel_of, (f.path for f in files)) if pixel]
    assert first_keys == sorted(set(first_keys))
    assert len(first_keys) == len(files) - 1
    assert files[-1].path.startswith("without_position/")
    assert sum(file.rows for file in files) == ROWS


def test_row_groups_outside_a_cone_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from galaxy_batch.catalog import files as catalog_files

    monkeypatch.setattr(catalog_files, "ROW_GROUP_ROWS", 50)
    folder = publish_rows(tmp_path, sky_rows(2000, seed=4), 1000, 2000, 2500)
    read: list[int] = []

    def counted(keys: Any, file: Any, real: Any = export._may_hold) -> bool:
        read.append(real(keys, file))
        return bool(read[-1])

    monkeypatch.setattr(export, "_may_hold", counted)
    cone = Cone(100, 30, 3)
    summary = export_catalog(ExportConfig(str(folder), str(tmp_path / "x.csv"), cone=cone))
    assert summary["rows"] == within(read_catalog(folder), cone).sum() > 0
    assert 1 <= sum(read) <= 3 < len(read)


def test_real_galaxies_across_ra_0(sky: Path, tmp_path: Path) -> None:
    """Ids and positions of SDSS DR7."""
    known = pd.read_csv(sky / "catalogs" / "dr7objid_radec.csv").drop_duplicates("dr7objid")
    rows = sky_rows(len(known), seed=6, positions=(known["ra"].to_numpy(), known["dec"].to_numpy()))
    rows = rows.set_column(0, "object_id", pa.array(known["dr7objid"].to_numpy()))
    folder = publish_rows(tmp_path / "catalogs", rows, 20_000, 2000, 20_000)
    for number, cone in enumerate([Cone(0, 0, 2), Cone(359, -1, 1.5), Cone(180, 30, 4), Cone(132.85, 11.81, 1)]):
        output = tmp_path / f"{number}.fits"
        summary = export_catalog(ExportConfig(str(folder), str(output), cone, columns=("object_id", "ra")))
        wanted = rows.filter(pa.array(within(rows, cone)))
        assert sorted(fits.getdata(output, 1)["object_id"].tolist()) == sorted(wanted["object_id"].to_pylist())
        assert len(wanted) > 5
        assert summary["files_read"] <= 6


@pytest.mark.parametrize("ending", ["fits", "vot", "csv"])
def test_a_condition_and_selected_columns(catalog: Path, rows: pa.Table, ending: str, tmp_path: Path) -> None:
    """Includes rows without a position; the columns of the condition need not be exported."""
    names = ("confidence", "object_id", "z")
    output = tmp_path / "new folder" / f"x.{ending}"
    where = "(predicted_class = 'smooth' and confidence > 0.75) or review_flags & 64 != 0"
    summary = export_catalog(ExportConfig(str(catalog), str(output), where=where, columns=names))
    smooth = pc.and_(pc.equal(rows["predicted_class"], "smooth"), pc.greater(rows["confidence"], 0.75))
    wanted = rows.filter(pc.or_kleene(smooth, rows["ra"].is_null())).select(list(names))
    assert summary["rows"] == len(wanted)
    assert summary["format"] == {"fits": "fits", "vot": "votable", "csv": "csv"}[ending]
    exported = read_csv(output) if ending == "csv" else Table.read(output).to_pandas()
    exported = exported.sort_values("object_id")
    assert tuple(exported.columns) == names
    assert exported["object_id"].tolist() == wanted["object_id"].to_pylist()
    for name in ("confidence", "z"):
        values = exported[name].astype("float32").to_numpy(np.float32, na_value=np.nan)
        np.testing.assert_array_equal(values, wanted[name].to_numpy())


def test_cone_and_condition_combine(catalog: Path, rows: pa.Table, tmp_path: Path) -> None:
    cone = Cone(0, 0, 0.5)
    export_catalog(ExportConfig(str(catalog), str(tmp_path / "x.csv"), cone, "p_featured > 0.5", ("object_id",)))
    wanted = rows.filter(pc.and_kleene(pa.array(within(rows, cone)), pc.greater(rows["p_featured"], 0.5)))
    assert sorted(read_csv(tmp_path / "x.csv")["object_id"]) == wanted["object_id"].to_pylist()


def test_a_full_export_has_every_row_and_all_metadata(catalog: Path, rows: pa.Table, tmp_path: Path) -> None:
    summary = export_catalog(ExportConfig(str(catalog), str(tmp_path / "x.fits")))
    assert summary["rows"] == ROWS
    data, header = fits.getdata(tmp_path / "x.fits", 1), fits.getheader(tmp_path / "x.fits", 1)
    order = np.argsort(data["object_id"])
    assert data["object_id"][order].tolist() == rows["object_id"].to_pylist()
    keys = data["_healpix_29"][: ROWS - rows["ra"].null_count]
    assert (np.diff(keys) >= 0).all(), "in the order of the sky"
    meaning = {header[f"TTYPE{n}"]: header.get(f"TCOMM{n}") for n in range(1, header["TFIELDS"] + 1)}
    assert {column.name: column.description for column in CATALOG_COLUMNS}.items() <= meaning.items()
    assert meaning["z"] == "Redshift"
    assert header["CATALOG"] == str(catalog)


def test_an_empty_selection_is_an_empty_table(catalog: Path, tmp_path: Path) -> None:
    for number, keywords in enumerate([{"cone": Cone(77, 33, 1e-6)}, {"where": "confidence > 2"}]):
        output = tmp_path / f"{number}.vot"
        assert export_catalog(ExportConfig(str(catalog), str(output), **keywords))["rows"] == 0  # type: ignore[arg-type]
        assert len(Table.read(output)) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"output_uri": "{tmp}/x.xlsx"}, "unknown file ending; use one of .fits"),
        ({"catalog_uri": "{tmp}"}, "no catalog is published there: no manifest.json"),
        ({"output_uri": "{catalog}/x.csv"}, "is inside the catalog's folder"),
        ({"output_uri": "{catalog}/dataset/x.csv", "catalog_uri": "{catalog}/"}, "is inside the catalog's folder"),
        ({"output_uri": "/proc/nowhere/x.csv"}, "cannot be written"),
        ({"columns": ["ra", "dek"]}, r"columns\[1\] = 'dek': no such column; the columns are object_id, ra, dec"),
        ({"columns": ["ra", "dec", "ra"]}, r"columns\[2\] = 'ra': is named twice"),
        ({"where": "confidnce > 1"}, "where = 'confidnce > 1': .*not found"),
        ({"where": "true; DROP TABLE x"}, "more than one statement"),
        ({"max_rows": 2999}, "max_rows = 2999: more rows match: select fewer by"),
        ({"max_rows": 10, "where": "needs_review"}, "max_rows = 10: more rows match"),
        ({"cone": {"ra": 400.0, "dec": 0.0, "radius_deg": 1.0}}, "cone.ra = 400.0: must be between 0 and 360"),
        ({"cone": {"ra": 4.0, "dec": 0.0, "radius": 1.0}}, "did you mean cone.radius_deg"),
        ({"cone": {"ra": 4.0, "dec": 0.0}}, "cone.radius_deg = None: is required"),
    ],
)
def test_input_errors_name_the_field_and_nothing_is_written(
    catalog: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    given = {"catalog_uri": "{catalog}", "output_uri": "{tmp}/x.csv", **values}
    given = {k: v.format(tmp=tmp_path, catalog=catalog) if isinstance(v, str) else v for k, v in given.items()}
    before = sorted(catalog.rglob("*"))
    with pytest.raises(InputError, match=message):
        export_catalog(parse_config(ExportConfig, given))
    assert not list(tmp_path.iterdir())
    assert sorted(catalog.rglob("*")) == before


def test_max_rows_is_inclusive(catalog: Path, tmp_path: Path) -> None:
    assert export_catalog(ExportConfig(str(catalog), str(tmp_path / "x.csv"), max_rows=ROWS))["rows"] == ROWS


@pytest.mark.parametrize("damage", ["truncated", "gone", "another"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    folder = publish_rows(tmp_path / "catalogs", sky_rows(300, seed=4), 1000, 100, 2500)
    first, second = sorted(folder.glob("dataset/**/*.parquet"))[:2]
    if damage == "truncated":
        first.write_bytes(first.read_bytes()[:-100])
    elif damage == "gone":
        first.unlink()
    else:
        first.write_bytes(second.read_bytes())
    with pytest.raises(InputError, match=rf"{first.relative_to(folder)} (is damaged,|is missing:) verify the catalog"):
        export_catalog(ExportConfig(str(folder), str(tmp_path / "x.csv")))
    assert not (tmp_path / "x.csv").exists()


def test_catalog_and_output_on_an_object_store(catalog: Path, rows: pa.Table, s3: S3) -> None:
    for path in catalog.rglob("*"):
        if path.is_file():
            s3.put(f"catalog/{path.relative_to(catalog)}", path.read_bytes())
    s3.proxy.forget()
    config = ExportConfig(f"{s3.uri}/catalog", f"{s3.uri}/exports/x.fits", cone=Cone(0, 90, 0.5))
    summary = export_catalog(config)
    wanted = rows.filter(pa.array(within(rows, Cone(0, 90, 0.5))))
    assert sorted(fits.getdata(pa.BufferReader(s3.get("exports/x.fits")), 1)["object_id"]) == (
        wanted["object_id"].to_pylist()
    )
    parquet = {request.path for request in s3.proxy.requests if request.path.endswith(".parquet")}
    assert len(parquet) == summary["files_read"]
    assert [name for name in s3.names() if name.startswith("exports/")] == ["exports/x.fits"]


def test_the_job_prints_its_summary(catalog: Path, rows: pa.Table, tmp_path: Path, call_job: CallJob) -> None:
    config = tmp_path / "export.toml"
    config.write_text(
        f'catalog_uri = "{catalog}"\noutput_uri = "{tmp_path}/x.vot"\n[cone]\nra = 0\ndec = 90\nradius_deg = 0.5\n'
    )
    done = call_job("export_catalog", str(config), "--set", "where=confidence > 0 or error <> ''")
    assert done.code == 0, done.log
    summary = json.loads(done.stdout.splitlines()[-1])
    given = {"catalog_uri": str(catalog), "output_uri": f"{tmp_path}/x.vot", "format": "votable"}
    assert given.items() <= summary.items()
    assert summary["rows"] == within(rows, Cone(0, 90, 0.5)).sum() == len(Table.read(tmp_path / "x.vot"))
    assert summary["seconds"] >= 0


def test_the_job_prints_the_remedy(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "export.toml"
    config.write_text(f'catalog_uri = "{catalog}"\noutput_uri = "{tmp_path}/x.vot"\n')
    monkeypatch.setattr(sys, "argv", ["export_catalog", str(config), "--set", "where=DELETE FROM catalog"])
    assert run_job(CommandLine("", ExportConfig), job) == 2
    assert "where = 'DELETE FROM catalog'" in caplog.text
    assert "write one condition on a row" in caplog.text


def test_sample_order_and_limit_equal_a_sort_of_all_rows(catalog: Path, rows: pa.Table, tmp_path: Path) -> None:
    output = tmp_path / "x.parquet"

    def ids(**selection: Any) -> list[int]:
        columns = ("object_id",)
        summary = export_catalog(ExportConfig(str(catalog), str(output), columns=columns, **selection))
        found: list[int] = pq.read_table(output)["object_id"].to_pylist()
        assert (summary["rows"], summary["format"]) == (len(found), "parquet")
        return found

    of_the_sky = ids()
    assert sorted(of_the_sky) == sorted(rows["object_id"].to_pylist())
    assert ids(limit=7) == of_the_sky[:7]
    sample = ids(sample=500)
    assert sample == [one for one in of_the_sky if one in set(sample)]
    assert len(sample) == 500 == len(set(sample))
    assert set(ids(sample=100)) < set(sample) == set(ids(sample=500, order_by="z"))
    assert 100 < len(set(sample) & set(of_the_sky[: ROWS // 2])) < 400  # from all over the sky
    z = dict(zip(rows["object_id"].to_pylist(), rows["z"].to_pylist(), strict=True))
    place = {one: number for number, one in enumerate(of_the_sky)}
    rising = sorted(of_the_sky, key=lambda one: (z[one] is None, z[one] or 0, place[one]))
    falling = sorted(of_the_sky, key=lambda one: (z[one] is None, -(z[one] or 0), place[one]))
    assert ids(order_by="z") == rising
    assert ids(order_by="z DESC", limit=40) == falling[:40]
    assert ids(order_by="z desc", sample=500, limit=9) == [one for one in falling if one in set(sample)][:9]
    above = ids(where="z > 0.5", sample=50, max_rows=50)
    assert len(above) == 50
    assert all(z[one] is not None and z[one] > 0.5 for one in above)
    with pytest.raises(InputError, match="max_rows = 50"):
        ids(sample=51, limit=5, max_rows=50)
    for wrong in ("nope", "z descending"):
        with pytest.raises(InputError, match="order_by"):
            ids(order_by=wrong)


def test_a_catalog_is_exported_without_a_config(catalog: Path, tmp_path: Path, call_job: CallJob) -> None:
    output = tmp_path / "x.csv"
    options = ["--cone", "0", "90", "0.5", "--where", "z is not null", "--order-by", "z", "DESC", "--limit", "3"]
    ended = call_job("export_catalog", str(catalog), "--to", str(output), *options, "--columns", "object_id,z")
    assert ended.code == 0, ended.log
    frame = read_csv(output)
    assert list(frame.columns) == ["object_id", "z"]
    assert len(frame) == 3
    assert frame["z"].is_monotonic_decreasing
    ended = call_job("export_catalog", str(catalog))
    assert (ended.code, "output_uri = None: is required" in ended.log) == (2, True)


@pytest.mark.parametrize("ending", ["fits", "vot", "csv"])
def test_vote_fractions_are_exported_with_their_descriptions(tmp_path: Path, ending: str) -> None:
    catalog = publish_rows(tmp_path, with_votes(sky_rows(300, seed=9), concentrations=True))
    rows = read_catalog(catalog)
    output = tmp_path / f"x.{ending}"
    config = {"catalog_uri": str(catalog), "output_uri": str(output), "where": "disk_edge_on_asked_fraction >= 0.5"}
    exported = export_catalog(parse_config(ExportConfig, config))
    wanted = rows.filter(pc.greater_equal(rows["disk_edge_on_asked_fraction"], 0.5))
    assert exported["rows"] == len(wanted) > 10
    table = Table.read(output, format={"fits": "fits", "vot": "votable", "csv": "csv"}[ending])
    table.sort("object_id")
    columns = {column.name: column for column in question_columns(FEW_QUESTIONS, concentrations=True)}
    assert [name for name in table.colnames if name in columns] == list(columns)
    for name, column in columns.items():
        assert np.allclose(table[name], wanted[name].to_numpy(), rtol=1e-6), name
        if ending == "vot":
            assert (table[name].description, table[name].meta["ucd"]) == (column.description, column.ucd)


def test_the_files_of_a_catalog_describe_vote_fractions(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, with_votes(sky_rows(60, seed=9)))
    table = Table.read(next(catalog.glob("dataset/**/*.parquet")), format="parquet.votable")
    for column in question_columns(FEW_QUESTIONS):
        assert (table[column.name].description, table[column.name].dtype) == (column.description, np.float32)
