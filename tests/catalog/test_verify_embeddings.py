"""Verification names what is wrong with embeddings, also where all checksums agree with it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.verify import verify_catalog
from tests.support.skies import publish_rows, sky_rows, with_embeddings

Change = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = with_embeddings(sky_rows(400, seed=2, without_position=0.05))
    catalog = publish_rows(tmp_path_factory.mktemp("sky"), rows, max_rows=200)
    assert verify_catalog(str(catalog)) == []
    return catalog


@pytest.fixture
def catalog(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "catalog"))


def rewrite(catalog: Path, change: Change, **options: Any) -> str:
    """Change a file of embeddings and its entry in the manifest; its path."""
    manifest = json.loads((catalog / "manifest.json").read_text())
    entry = max(manifest["embedding_files"], key=lambda entry: entry["rows"])
    file = catalog / entry["path"]
    table = change(pq.read_table(file, partitioning=None))
    pq.write_table(table, file, **options)
    content = file.read_bytes()
    entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (catalog / "manifest.json").write_text(json.dumps(manifest))
    return str(entry["path"])


def with_values(change: Callable[[np.ndarray, np.ndarray], None]) -> Change:
    """Change the embeddings and which are null, in place."""

    def changed(table: pa.Table) -> pa.Table:
        lists = table["embedding"].combine_chunks()
        values, missing = lists.values.to_numpy(zero_copy_only=False).copy(), lists.is_null().to_numpy(False).copy()
        change(values.reshape(len(table), -1), missing)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values), type=lists.type, mask=pa.array(missing))
        return table.set_column(2, table.schema.field("embedding"), lists)

    return changed


def broken_number(values: np.ndarray, missing: np.ndarray) -> None:
    values[np.flatnonzero(~missing)[0], 1] = np.inf


def broken_null(values: np.ndarray, missing: np.ndarray) -> None:
    missing[np.flatnonzero(~missing)[:3]] = True


@pytest.mark.parametrize(
    ("change", "options", "problem"),
    [
        (
            lambda t: t.set_column(0, "object_id", t["object_id"].take(np.arange(len(t))[::-1])),
            {},
            "rows with another object_id or _healpix_29",
        ),
        (lambda t: t.slice(1), {}, "its row groups are not those of the file of rows"),
        (lambda t: t, {"row_group_size": 7}, "its row groups are not those of the file of rows"),
        (lambda t: t.drop_columns(["_healpix_29"]), {}, "with 4 numbers"),
        (with_values(broken_number), {}, "1 rows with an embedding that is not finite"),
        (with_values(broken_null), {}, "3 rows with an embedding without an image, or the reverse"),
    ],
)
def test_wrong_content(catalog: Path, change: Change, options: dict[str, Any], problem: str) -> None:
    path = rewrite(catalog, change, **options)
    (said,) = verify_catalog(str(catalog))
    assert said.startswith(f"{path}: ")
    assert problem in said


def test_an_unchanged_copy_verifies(catalog: Path) -> None:
    rewrite(catalog, lambda table: table)
    assert verify_catalog(str(catalog)) == []


def test_missing_changed_and_unlisted_files(catalog: Path) -> None:
    first, second, *_ = sorted(catalog.glob("embedding/**/*.pq"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    (catalog / "embedding" / "more.pq").write_bytes(b"")
    problems = "; ".join(verify_catalog(str(catalog)))
    for said in (f"{first.relative_to(catalog)}: is missing", f"{second.relative_to(catalog)}: its content has changed",
                 "embedding/more.pq: is not part of the catalog"):  # fmt: skip
        assert said in problems


@pytest.mark.parametrize("change", [lambda m: m["embedding_files"].pop(), lambda m: m["config"].pop("classify")])
def test_the_manifest_lists_one_for_each_file_of_rows(catalog: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((catalog / "manifest.json").read_text())
    change(manifest)
    (catalog / "manifest.json").write_text(json.dumps(manifest))
    assert "embedding_files must be one for each file of rows" in "; ".join(verify_catalog(str(catalog)))
