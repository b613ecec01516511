"""The plan of a packing run: number and division of shards, and input errors before Ray starts."""

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_batch.errors import GateError, InputError
from galaxy_batch.inputs.manifest import Chunk
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.packing.plan import _divide_chunks, plan_pack
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import POSITIONS, pack_config


def sky_config(sky: Path, output: Path) -> PackConfig:
    manifest = {
        "uri": str(sky / "sdss_dr7" / "objects.csv"), "id_column": "dr7objid", "keep_columns": ["gz1_class"],
        "uri_template": "images/{dr7objid}.jpeg", **POSITIONS,
    }  # fmt: skip
    return parse_config(
        PackConfig, {"output_uri": str(output), "manifest": manifest, "shard_bytes": 1 << 20, "row_group_rows": 32}
    )


@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(1, 60))
def test_shards_hold_every_chunk_once_in_order_and_are_even(sizes: list[int], wanted: int) -> None:
    chunks = tuple(Chunk(index, rows) for index, rows in enumerate(sizes))
    shards = _divide_chunks(chunks, min(wanted, len(chunks)))
    assert [chunk for shard in shards for chunk in shard.chunks] == list(chunks)
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert 1 <= len(shards) <= wanted
    ideal = sum(sizes) / min(wanted, len(chunks))
    assert all(shard.chunks and shard.rows < ideal + max(sizes) for shard in shards)


def test_shards_have_about_the_requested_size(sky: Path, tmp_path: Path) -> None:
    plan = plan_pack(sky_config(sky, tmp_path))
    images = sky / "sdss_dr7" / "images"
    total = sum(file.stat().st_size for file in images.iterdir())
    assert plan.record["shards"] == len(plan.shards) == pytest.approx(total / (1 << 20), rel=0.1)
    assert plan.record["mean_image_bytes"] == pytest.approx(total / 1140, rel=0.1)
    assert {shard.rows for shard in plan.shards[:-1]} == {64, 96}
    assert plan_pack(sky_config(sky, tmp_path)) == plan
    assert not list(tmp_path.iterdir()), "planning writes nothing"
    whole = plan_pack(dataclasses.replace(sky_config(sky, tmp_path), shard_bytes=256 << 20))
    assert [shard.rows for shard in whole.shards] == [1140]


def test_large_images_in_large_row_groups_cause_a_warning(
    sky: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_pack(dataclasses.replace(sky_config(sky, tmp_path), row_group_rows=1024))
    assert len(plan.shards) == 2
    assert "lower row_group_rows" in caplog.text


def test_missing_files_do_not_lead_to_one_huge_shard(survey: SurveyFiles, tmp_path: Path) -> None:
    pq.write_table(pa.table({"object_id": range(100_000)}), tmp_path / "objects.parquet")
    manifest = {"uri": str(tmp_path / "objects.parquet"), "uri_template": "{object_id}.jpg"}
    config = parse_config(PackConfig, {"output_uri": str(tmp_path / "out"), "manifest": manifest})
    plan = plan_pack(dataclasses.replace(config, shard_bytes=1 << 20))
    assert max(shard.rows for shard in plan.shards) <= 2048


def test_an_unreachable_store_stops_the_plan(tmp_path: Path) -> None:
    pq.write_table(pa.table({"object_id": [1, 2]}), tmp_path / "objects.parquet")
    manifest = {"uri": str(tmp_path / "objects.parquet"), "uri_template": "nosuchscheme://x/{object_id}.jpg"}
    with pytest.raises(GateError, match="did not respond for any of 2 cutouts") as caught:
        plan_pack(parse_config(PackConfig, {"output_uri": str(tmp_path / "out"), "manifest": manifest}))
    assert caught.value.summary["status_counts"] == {"unreachable": 2}
    assert not (tmp_path / "out").exists()


def test_files_of_others_are_not_replaced(survey: SurveyFiles, tmp_path: Path) -> None:
    config = pack_config(survey, tmp_path, overwrite=True)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shard-000000.tar").write_bytes(b"theirs")
    with pytest.raises(InputError, match="this job did not write"):
        plan_pack(config)
    (tmp_path / "shards" / "shard-000000.tar").unlink()
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="this job did not write"):
        plan_pack(config)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "plan.json").write_text("[1]")
    with pytest.raises(InputError, match=r"plan\.json is damaged"):
        plan_pack(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"manifest": {"uri": "objects.parquet", "uri_template": "{object_id}", "keep_columns": ["image"]}}, "rename"),
        ({"output_uri": "/proc/nowhere"}, "cannot be written"),
    ],
)
def test_invalid_settings_are_input_errors(
    survey: SurveyFiles, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        plan_pack(pack_config(survey, tmp_path, **settings))
