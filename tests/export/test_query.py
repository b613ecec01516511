"""SQL conditions: selected rows and errors."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.export.query import Condition
from tests.support.skies import sky_rows

ROWS = sky_rows(3000, seed=3, without_position=0.1)
ID = ROWS["object_id"][1234].as_py()


def names_of(condition: Condition) -> set[str]:
    return set(condition.columns)


@pytest.mark.parametrize(
    ("where", "wanted", "columns"),
    [
        ("confidence > 0.75 and predicted_class = 'smooth'",
         pc.and_(pc.greater(ROWS["confidence"], 0.75), pc.equal(ROWS["predicted_class"], "smooth")),
         {"confidence", "predicted_class"}),
        ("confidence IS NULL -- no image", ROWS["confidence"].is_null(), {"confidence"}),
        (f"OBJECT_ID = {ID}", pc.equal(ROWS["object_id"], ID), {"object_id"}),
        ("review_flags & 128 != 0", pc.not_equal(pc.bit_wise_and(ROWS["review_flags"], 128), 0), {"review_flags"}),
        ("needs_review", ROWS["needs_review"], {"needs_review"}),
        ("p_smooth BETWEEN 0.25 AND 0.5 OR error LIKE 'no such%'",
         pc.or_kleene(pc.and_(pc.greater_equal(ROWS["p_smooth"], 0.25), pc.less_equal(ROWS["p_smooth"], 0.5)),
                      pc.equal(ROWS["error"], "no such file")), {"p_smooth", "error"}),
        ("true", pa.array([True] * 3000), set()),
        ("false", pa.array([False] * 3000), set()),
    ],
)  # fmt: skip
def test_a_condition_keeps_the_rows_for_which_it_is_true(where: str, wanted: Any, columns: set[str]) -> None:
    condition = Condition(where, ROWS.schema)
    assert names_of(condition) == columns
    filtered = condition.filter(ROWS)
    assert filtered.equals(ROWS.filter(wanted))
    assert len(filtered) > 0 or where == "false"


def test_filtering_in_slices_keeps_the_order() -> None:
    condition = Condition("confidence > 0.75", ROWS.schema)
    pieces = [condition.filter(ROWS.slice(start, 700)) for start in range(0, 3000, 700)]
    assert pa.concat_tables(pieces).equals(condition.filter(ROWS))
    assert len(condition.filter(ROWS.slice(0, 0))) == 0


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("confidnce > 0.5", 'column "confidnce" not found'),
        ('predicted_class = "smooth"', "'smooth'"),
        ("confidence", "is of type FLOAT, not boolean"),
        ("predicted_class", "is of type VARCHAR, not boolean"),
        ("", "write one condition"),
        ("confidence > ", "write one condition"),
        ("confidence > 0.5; DROP TABLE x", "more than one statement"),
        ("confidence > 0.5) OR (true", "syntax error"),
        ("true, false", "single expression"),
        ("true LIMIT 3", "write one condition"),
        ("true FROM read_text('{file}')", "write one condition"),
        ("SELECT 1", "syntax error"),
        ("DROP TABLE x", "syntax error"),
        ("COPY (SELECT 1) TO '{new}'", "syntax error"),
        ("SET enable_external_access = true", "syntax error"),
        ("ATTACH '{new}'", "write one condition"),
        ("count(*) > 1", "cannot contain aggregates"),
        ("row_number() OVER () = 1", "window"),
        ("COLUMNS(*) IS NOT NULL", "subqueries and * are not possible"),
        ("COLUMNS('conf.*') > 0.5", "subqueries and * are not possible"),
        ("confidence > (SELECT 0.5)", "subqueries and * are not possible"),
        ("EXISTS (FROM duckdb_settings()) AS x", "subqueries and * are not possible"),
        ("object_id IN (SELECT object_id FROM read_csv('{file}'))", "subqueries and * are not possible"),
        ("confidence > $1", "write one condition"),
        ("confidence > ?", "write one condition"),
        ("getenv('HOME') = ''", "does not exist"),
        ("predicted_class > 0.5", "write one condition"),
        ("status::int = 1", "Could not convert string"),
    ],
)
def test_invalid_conditions_are_input_errors(where: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("object_id\n1\n")
    text = where.format(file=file, new=tmp_path / "new")
    with pytest.raises(InputError) as caught:
        Condition(text, ROWS.schema).filter(ROWS)
    assert message in str(caught.value)
    assert caught.value.field == "where"
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM read_text('{}')", "FROM '{}'", "COPY (SELECT 1) TO '{}.new'", "ATTACH '{}.new'",
     "SET enable_external_access = true", "INSTALL httpfs", "FROM rows_here"],
)  # fmt: skip
def test_duckdb_has_no_access_to_files(statement: str, tmp_path: Path) -> None:
    """A second line of defence behind the checks of the expression."""
    import duckdb

    file = tmp_path / "secret.csv"
    file.write_text("x\n1\n")
    rows_here = ROWS  # noqa: F841 - DuckDB could look it up by name
    connection = Condition("true", ROWS.schema)._connection
    with pytest.raises(duckdb.Error):
        connection.execute(statement.format(file)).fetchall()
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_ids_are_compared_exactly() -> None:
    ids = np.array([2**63 - 1, 2**63 - 2, 2**53 + 1, 2**53], np.int64)
    rows = pa.table({"object_id": ids})
    for number in ids.tolist():
        assert Condition(f"object_id = {number}", rows.schema).filter(rows)["object_id"].to_pylist() == [number]


def test_without_duckdb_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "duckdb":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match="uv sync --extra query"):
        Condition("true", ROWS.schema)
