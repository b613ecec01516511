import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.hats import tile_path
from galaxy_batch.catalog.verify_file import FileReport, header_problems, schema_problem, verify_file
from tests.support.skies import CONTRACT, publish_rows, schema_of, sky_rows

ROWS = 900


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pa.Table]:
    """The file of a pixel, from a catalog."""
    rng = np.random.default_rng(0)
    positions = rng.uniform(10, 12, ROWS), rng.uniform(10, 12, ROWS)
    catalog = publish_rows(tmp_path_factory.mktemp("sky"), sky_rows(ROWS, seed=1, positions=positions))
    (file,) = catalog.glob("dataset/**/*.parquet")
    return str(file.relative_to(catalog)), pq.read_table(file, partitioning=None)


def report_on(path: str, table: pa.Table, group_rows: int = ROWS) -> FileReport:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group_rows)
    schema = {column.name: str(column.type) for column in schema_of(table)}
    return verify_file(sink.getvalue(), path, schema, CONTRACT)


@pytest.mark.parametrize("group_rows", [1, 7, ROWS])
def test_row_groups_add_up(table: tuple[str, pa.Table], group_rows: int) -> None:
    path, rows = table
    report = report_on(path, rows.slice(0, 100), group_rows)
    assert report.problems == []
    assert (report.rows, report.counts.failed) == (100, rows["predicted_class"].slice(0, 100).null_count)
    assert sum(map(len, report.ids)) == 100
    assert sum(report.counts.status_counts.values()) == 100
    assert len(report.sky) == 100
    assert sum(len(hashes) for hashes, _ in report.images) == 100 - rows["image_hash"].slice(0, 100).null_count


@pytest.mark.parametrize("group_rows", [1, 7, 50, ROWS])
def test_the_order_is_checked_across_row_groups(table: tuple[str, pa.Table], group_rows: int) -> None:
    path, rows = table
    order = np.arange(100)
    order[[49, 50]] = 50, 49
    report = report_on(path, rows.take(pa.array(order)), group_rows)
    (problem,) = report.problems
    assert problem.startswith("1 rows with a position out of the order of _healpix_29, object_id (the first: ")
    assert problem.endswith(f"{rows['object_id'][49]})")


def test_rows_at_one_position_are_ordered_by_id(table: tuple[str, pa.Table]) -> None:
    path, rows = table
    place = rows.slice(0, 1)
    ids = pa.array([5, 9, 7])
    same = pa.concat_tables([place] * 3).set_column(0, rows.schema.field(0), ids)
    assert any("1 rows with a position out of the order" in problem for problem in report_on(path, same).problems)


def test_the_path_of_a_file_says_its_pixel(table: tuple[str, pa.Table]) -> None:
    path, rows = table
    elsewhere = report_on(tile_path(0, 11), rows)
    assert any(f"{ROWS} rows with a position outside the file's pixel" in problem for problem in elsewhere.problems)
    beside = report_on("without_position/part-000000.parquet", rows)
    assert any(f"{ROWS} rows with a position outside" in problem for problem in beside.problems)
    assert report_on(path, rows).problems == []


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 100, bytes(5000)])
def test_bytes_that_are_not_parquet_are_a_problem(content: bytes) -> None:
    (problem,) = verify_file(content, tile_path(0, 0), {}, CONTRACT).problems
    assert problem.startswith("cannot be read as Parquet")


CHANGES: dict[str, tuple[Callable[[pa.Schema], pa.Schema], str | None]] = {
    "none": (lambda s: s, None),
    "metadata": (lambda s: s.with_metadata({"x": "y"}), None),
    "dropped": (lambda s: s.remove(0), "in object_id"),
    "added": (lambda s: s.append(pa.field("z", pa.int8())), "in z"),
    "type": (lambda s: s.set(0, pa.field("object_id", pa.string())), "in object_id"),
    "order": (lambda s: pa.schema(list(s)[::-1]), "in the order of its columns"),
    "twice": (lambda s: s.append(s.field(0)), "in the order of its columns"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_schemas_are_compared_by_names_types_and_order(table: tuple[str, pa.Table], change: str) -> None:
    schema = schema_of(table[1])
    changed, message = CHANGES[change]
    problem = schema_problem(changed(schema), {column.name: str(column.type) for column in schema})
    assert (problem is None) if message is None else message in str(problem)


def test_headers_are_compared_with_the_columns(table: tuple[str, pa.Table]) -> None:
    schema = table[1].schema
    assert list(header_problems(schema)) == []
    assert list(header_problems(schema.remove(0))) == [
        "its VOTable header does not describe the columns as they are: object_id"
    ]
    assert list(header_problems(pa.schema(list(schema)[::-1], schema.metadata))) == [
        "its VOTable header has the columns in another order"
    ]
    assert list(header_problems(schema.append(pa.field("z", pa.int8())))) == [
        "its VOTable header does not describe the columns as they are: z"
    ]
    assert list(header_problems(schema.with_metadata(None))) == ["has no VOTable header"]


def test_a_large_file_has_several_row_groups(table: tuple[str, pa.Table], tmp_path: Path) -> None:
    from galaxy_batch.catalog.files import CatalogFileHeader, write_catalog_file

    path, rows = table
    many = pa.concat_tables([rows] * 80).combine_chunks()
    file = write_catalog_file(many, path, CatalogFileHeader(schema_of(rows), "r", "m"), str(tmp_path)).file
    assert pq.read_metadata(tmp_path / file.path).num_row_groups == 2
