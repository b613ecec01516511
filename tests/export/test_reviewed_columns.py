"""Exports with the verdicts of people, compared with a join by hand."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from galaxy_batch.errors import InputError
from galaxy_batch.export.config import ExportConfig
from galaxy_batch.export.export import export_catalog
from galaxy_batch.verdicts.import_verdicts import import_verdicts
from tests.support.jobs import CallJob
from tests.support.skies import publish_rows, read_catalog, sky_rows
from tests.support.verdict_files import import_config, page_row, write_csv

ROWS = 600


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_rows(tmp_path_factory.mktemp("sky"), sky_rows(ROWS, seed=6, without_position=0.05), max_rows=100)


@pytest.fixture(scope="module")
def said(catalog: Path) -> dict[int, str]:
    """Verdicts on every tenth object."""
    words = ["smooth", "featured", "artifact", "unsure"]
    return {one: words[n % 4] for n, one in enumerate(read_catalog(catalog)["object_id"].to_pylist()[::10])}


@pytest.fixture(scope="module")
def verdicts(catalog: Path, said: dict[int, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = [page_row(one, word, "Anna") for one, word in said.items()]
    file = write_csv(tmp_path_factory.mktemp("page") / "page.csv", rows)
    uri: str = import_verdicts(import_config(catalog, file, names=True))["verdicts_uri"]
    return uri


def exported(catalog: Path, output: Path, **settings: Any) -> pa.Table:
    summary = export_catalog(ExportConfig(str(catalog), str(output), **settings))
    table = pq.read_table(output)
    assert summary["rows"] == len(table)
    return table


def test_every_row_is_there_with_its_verdict(
    catalog: Path, said: dict[int, str], verdicts: str, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in catalog.rglob("*") if path.is_file()}
    plain = exported(catalog, tmp_path / "plain.parquet")
    for uri in (verdicts, f"{verdicts}/reviewed.parquet"):
        table = exported(catalog, tmp_path / "x.parquet", verdicts_uri=uri)
        assert table.drop_columns(["reviewed_class", "reviewed_by"]).equals(plain)
        classes = dict(zip(table["object_id"].to_pylist(), table["reviewed_class"].to_pylist(), strict=True))
        assert {one: name for one, name in classes.items() if name} == {o: w for o, w in said.items() if w != "unsure"}
        by = dict(zip(table["object_id"].to_pylist(), table["reviewed_by"].to_pylist(), strict=True))
        assert {one for one, name in by.items() if name == "Anna"} == set(said)
    assert {path: path.read_bytes() for path in before} == before


def test_conditions_order_and_columns_may_name_verdicts(
    catalog: Path, said: dict[int, str], verdicts: str, tmp_path: Path, call_job: CallJob
) -> None:
    ended = call_job(
        "export_catalog", str(catalog), "--to", str(tmp_path / "x.parquet"), "--verdicts", verdicts,
        "--where", "reviewed_class is not null and reviewed_class != predicted_class",
        "--columns", "reviewed_class,object_id", "--order-by", "reviewed_class",
    )  # fmt: skip
    assert ended.code == 0, ended.log
    table = pq.read_table(tmp_path / "x.parquet")
    rows = read_catalog(catalog)
    predicted = dict(zip(rows["object_id"].to_pylist(), rows["predicted_class"].to_pylist(), strict=True))
    wanted = {(w, o) for o, w in said.items() if w != "unsure" and predicted[o] not in (None, w)}
    assert table.column_names == ["reviewed_class", "object_id"]
    assert set(zip(table["reviewed_class"].to_pylist(), table["object_id"].to_pylist(), strict=True)) == wanted
    assert table["reviewed_class"].to_pylist() == sorted(name for name, _ in wanted)
    assert json.loads(ended.stdout.splitlines()[-1])["rows"] == len(wanted) > 10


@pytest.mark.parametrize("ending", ["csv", "vot", "fits"])
def test_other_formats(catalog: Path, said: dict[int, str], verdicts: str, tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"x.{ending}"
    settings: dict[str, Any] = {"verdicts_uri": verdicts, "where": "reviewed_class = 'artifact'"}
    export_catalog(ExportConfig(str(catalog), str(output), **settings))
    table = pd.read_csv(output) if ending == "csv" else Table.read(output)
    assert sorted(table["object_id"].tolist()) == sorted(one for one, word in said.items() if word == "artifact")
    assert {str(name) for name in table["reviewed_by"]} == {"Anna"}


def test_verdicts_that_do_not_fit(catalog: Path, verdicts: str, tmp_path: Path) -> None:
    config = {"catalog_uri": str(catalog), "output_uri": str(tmp_path / "x.csv")}
    with pytest.raises(InputError, match="holds no verdicts"):
        export_catalog(ExportConfig(**config, verdicts_uri=str(tmp_path)))
    other = publish_rows(tmp_path / "other", sky_rows(20, text_ids=True))
    with pytest.raises(InputError, match="its object_id is int64, and that of the catalog string"):
        export_catalog(ExportConfig(str(other), config["output_uri"], verdicts_uri=verdicts))
    rows = sky_rows(20).append_column("reviewed_by", pa.array(["x"] * 20))
    kept = publish_rows(tmp_path / "kept", rows)
    with pytest.raises(InputError, match="the catalog has a column reviewed_by of its own"):
        export_catalog(ExportConfig(str(kept), config["output_uri"], verdicts_uri=verdicts))
    with pytest.raises(InputError, match="no such column"):
        export_catalog(ExportConfig(**config, columns=("reviewed_class",)))
