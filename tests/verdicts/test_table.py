from pathlib import Path

import pyarrow as pa
import pytest

from galaxy_batch.reviewed_objects import read_import, reviewed_schema, verdicts_folder
from galaxy_batch.verdicts import table
from galaxy_batch.verdicts.table import key_uri, rejected_schema, verdicts_schema, write_tables


def test_tables_are_beside_the_catalog_and_the_key_is_above_them() -> None:
    catalog = "s3://bucket/release=r/model=m/catalog/"
    assert verdicts_folder(catalog, "x") == "s3://bucket/release=r/model=m/review/verdicts/x"
    assert key_uri(catalog) == "s3://bucket/release=r/model=m/review/verdicts/pseudonyms.key"


def test_while_tables_are_replaced_there_is_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = [schema.empty_table() for schema in (verdicts_schema(pa.int64()), reviewed_schema(pa.int64()))]
    write_tables(str(tmp_path), *empty, rejected_schema().empty_table(), {"merge": None})
    assert read_import(str(tmp_path)) == {"format": 1, "merge": None}
    monkeypatch.setattr(table, "write_json", lambda *_: pytest.fail("interrupted"))
    with pytest.raises(pytest.fail.Exception, match="interrupted"):
        write_tables(str(tmp_path), *empty, rejected_schema().empty_table(), {"merge": None})
    assert read_import(str(tmp_path)) is None
