"""Damage of many kinds, each found and named."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from galaxy_batch.pipeline import classify_release, plan_release
from galaxy_batch.synthetic import SurveyFiles
from galaxy_batch.verify import verify_catalog
from tests.conftest import SavedModel
from tests.test_pipeline import config_for


@pytest.fixture(scope="module")
def published(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path_factory: pytest.TempPathFactory, ray_started: None
) -> Path:
    output = tmp_path_factory.mktemp("published")
    return Path(classify_release(plan_release(config_for(survey, saved_model, output)))["catalog_uri"])


@pytest.fixture
def catalog(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "catalog"))


def first_file(catalog: Path) -> Path:
    return catalog / "dataset" / "part-000000.parquet"


def rewrite(catalog: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change rows as somebody would who also mends the checksum."""
    file = first_file(catalog)
    pq.write_table(change(pq.read_table(file)), file)
    manifest = json.loads((catalog / "manifest.json").read_text())
    entry = next(e for e in manifest["files"] if e["path"].endswith(file.name))
    content = file.read_bytes()
    entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), rows=pq.read_metadata(file).num_rows)
    (catalog / "manifest.json").write_text(json.dumps(manifest))


def edit(catalog: Path, **changes: Any) -> None:
    manifest = json.loads((catalog / "manifest.json").read_text())
    (catalog / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def swap(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), table.schema.field(name), values)


def flip_byte(catalog: Path) -> None:
    content = bytearray(first_file(catalog).read_bytes())
    content[100] ^= 1
    first_file(catalog).write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated file": (lambda c: first_file(c).write_bytes(first_file(c).read_bytes()[:500]), "has 500 bytes, not"),
    "flipped byte": (flip_byte, "its content has changed"),
    "missing file": (lambda c: first_file(c).unlink(), "part-000000.parquet: is missing"),
    "stray file": (lambda c: (c / "dataset" / "x.parquet").write_bytes(b""), "x.parquet: is not part of the catalog"),
    "no manifest": (lambda c: (c / "manifest.json").unlink(), "nothing is published"),
    "half a manifest": (lambda c: (c / "manifest.json").write_text('{"files": ['), "manifest.json is damaged"),
    "row count edited": (lambda c: edit(c, rows=41), "rows is 41, the files have 40"),
    "failures edited": (lambda c: edit(c, failed=0), "failed is 0, the files have 4"),
    "flagged edited": (lambda c: edit(c, flagged=0), "flagged is 0"),
    "survey rows edited": (lambda c: edit(c, manifest_rows=50), "50 rows in the survey's manifest, 40 here"),
    "model edited": (lambda c: edit(c, model_id="0" * 16), "model_id is not 0000"),
    "doubled rows": (
        lambda c: rewrite(c, lambda t: pa.concat_tables([t, t.slice(0, 2)])),
        "2 ids stand in more than one row",
    ),
    "dropped rows": (lambda c: rewrite(c, lambda t: t.slice(1)), "rows is 40, the files have 39"),
    "columns swapped": (
        lambda c: rewrite(c, lambda t: t.rename_columns({"p_smooth": "p_featured", "p_featured": "p_smooth"})),
        "the schema differs",
    ),
    "column dropped": (lambda c: rewrite(c, lambda t: t.drop_columns(["error"])), "the schema differs"),
    "probabilities swapped": (
        lambda c: rewrite(c, lambda t: swap(swap(t, "p_smooth", t["p_featured"]), "p_featured", t["p_smooth"])),
        "a class that is not the most probable one",
    ),
    "confidence raised": (
        lambda c: rewrite(c, lambda t: swap(t, "confidence", pa.array([0.99] * len(t), pa.float32()))),
        "a confidence that is not the probability",
    ),
    "flags cleared": (
        lambda c: rewrite(c, lambda t: swap(t, "review_flags", pa.array([0] * len(t), pa.int32()))),
        "needs_review at odds",
    ),
    "class removed": (
        lambda c: rewrite(
            c, lambda t: swap(t, "predicted_class", pa.nulls(len(t), t.schema.field("predicted_class").type))
        ),
        "a class that is not the most probable one",
    ),
    "position removed": (
        lambda c: rewrite(c, lambda t: swap(t, "ra", pa.nulls(len(t), pa.float64()))),
        "NO_POSITION at odds",
    ),
    "status changed": (
        lambda c: rewrite(
            c, lambda t: swap(t, "status", pa.array(["missing"] * len(t)).cast(t.schema.field("status").type))
        ),
        "a class without status ok",
    ),
    "probability over one": (
        lambda c: rewrite(c, lambda t: swap(t, "p_smooth", pc.add(t["p_smooth"], pa.scalar(1, pa.float32())))),
        "probabilities outside 0…1",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_named(catalog: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    assert verify_catalog(str(catalog)) == []
    damage(catalog)
    problems = verify_catalog(str(catalog))
    assert any(message in problem for problem in problems), problems
