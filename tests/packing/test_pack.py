"""Packing: resuming, errors, and the catalog made from shards."""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.packing.pack import pack_cutouts
from galaxy_batch.packing.plan import plan_pack
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import PACK_TOML, POSITIONS, pack_config
from tests.support.files import mtimes, shard_files
from tests.support.jobs import CallJob
from tests.support.models import SavedModel


@pytest.mark.usefixtures("ray_started")
class TestPacking:
    """The whole job, with Ray."""

    def test_a_stopped_run_resumes_and_a_finished_one_does_nothing(self, survey: SurveyFiles, tmp_path: Path) -> None:
        config = pack_config(survey, tmp_path)
        plan = plan_pack(config)
        first = pack_cutouts(plan)
        files = shard_files(tmp_path)
        assert len(files) == first["shards"] == len(plan.shards) >= 4
        assert (first["rows"], first["failed"], first["status_counts"]) == (40, 1, {"missing": 1, "ok": 39})
        assert first["bytes"] == sum(file.stat().st_size for file in files)
        assert first["shards_uri"] == f"{tmp_path}/shards/*.parquet"
        assert pq.read_table(files)["object_id"].to_pylist() == pd.read_csv(survey.manifest)["object_id"].to_list()
        before = mtimes([*files, tmp_path / "manifest.json", tmp_path / "plan.json"])
        assert pack_cutouts(plan_pack(config)) == {
            **first, "already_packed": True, "seconds": pytest.approx(0, abs=60)
        }  # fmt: skip
        assert mtimes(list(before)) == before

        manifest = (tmp_path / "manifest.json").read_bytes()
        contents = {file: file.read_bytes() for file in files}
        for file in (files[1], files[3]):
            file.unlink()
        (tmp_path / "shards" / ".tmp-shard-000001.parquet-1").write_bytes(b"half a shard")
        again = plan_pack(config)
        assert [shard.index for shard in again.todo] == [1, 3]
        summary = pack_cutouts(again)
        assert not summary["already_packed"]
        assert mtimes([files[0], files[2], files[4]]).items() <= before.items()
        assert {file: file.read_bytes() for file in files} == contents
        new, old = json.loads((tmp_path / "manifest.json").read_text()), json.loads(manifest)
        assert {**new, "created": ""} == {**old, "created": ""}

    def test_the_manifest_lists_all_files_and_no_secrets(self, survey: SurveyFiles, tmp_path: Path) -> None:
        summary = pack_cutouts(plan_pack(pack_config(survey, tmp_path)))
        text = (tmp_path / "manifest.json").read_text()
        content = json.loads(text)
        assert (content["rows"], content["status_counts"]) == (40, summary["status_counts"])
        assert [entry["path"] for entry in content["files"]] == [f"shards/{f.name}" for f in shard_files(tmp_path)]
        sums = subprocess.run(
            ["sha256sum", *(entry["path"] for entry in content["files"])],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert [line.split()[0] for line in sums.stdout.splitlines()] == [e["sha256"] for e in content["files"]]
        assert "images/" not in text

    def test_too_many_failures_are_not_published_and_shards_are_kept(self, survey: SurveyFiles, tmp_path: Path) -> None:
        strict = pack_config(survey, tmp_path, max_failed_fraction=0.01)
        with pytest.raises(GateError, match=r"1 of 40 rows have no image \(1 missing\)") as caught:
            pack_cutouts(plan_pack(strict))
        assert caught.value.summary["shards_uri"] is None
        assert not (tmp_path / "manifest.json").exists()
        before = mtimes(shard_files(tmp_path))
        relaxed = pack_cutouts(plan_pack(dataclasses.replace(strict, max_failed_fraction=0.1)))
        assert relaxed["rows"] == 40
        assert mtimes(shard_files(tmp_path)) == before

    def test_damaged_shards_are_not_published(self, survey: SurveyFiles, tmp_path: Path) -> None:
        config = pack_config(survey, tmp_path)
        pack_cutouts(plan_pack(config))
        files = shard_files(tmp_path)
        whole = files[2].read_bytes()
        files[2].write_bytes(whole[: len(whole) // 2])
        (tmp_path / "manifest.json").unlink()
        with pytest.raises(GateError, match=r"shards/shard-000002\.parquet: cannot be read as Parquet"):
            pack_cutouts(plan_pack(config))
        files[2].write_bytes(files[1].read_bytes())
        with pytest.raises(GateError, match=r"shard-000002\.parquet: .*(ids are not the manifest's|row groups)"):
            pack_cutouts(plan_pack(config))
        files[2].write_bytes(whole)
        stray = tmp_path / "shards" / "shard-000099.parquet"
        stray.write_bytes(whole)
        with pytest.raises(GateError, match=r"shard-000099\.parquet: is not part of this output"):
            pack_cutouts(plan_pack(config))
        assert not (tmp_path / "manifest.json").exists()
        stray.unlink()
        assert pack_cutouts(plan_pack(config))["rows"] == 40

    def test_shards_of_other_input_are_replaced_only_with_overwrite(self, survey: SurveyFiles, tmp_path: Path) -> None:
        config = pack_config(survey, tmp_path)
        pack_cutouts(plan_pack(config))
        before = mtimes(shard_files(tmp_path))
        other = dataclasses.replace(config, row_group_rows=8)
        with pytest.raises(InputError, match="set overwrite = true"):
            plan_pack(other)
        objects = pd.read_csv(survey.manifest)
        objects.iloc[:-1].to_csv(survey.manifest.parent / "shorter.csv", index=False)
        manifest = dataclasses.replace(config.manifest, uri=str(survey.manifest.parent / "shorter.csv"))
        with pytest.raises(InputError, match="set overwrite = true"):
            plan_pack(dataclasses.replace(config, manifest=manifest))
        assert mtimes(shard_files(tmp_path)) == before
        summary = pack_cutouts(plan_pack(dataclasses.replace(config, manifest=manifest, overwrite=True)))
        assert (summary["rows"], summary["already_packed"]) == (39, False)
        assert sum(pq.read_metadata(file).num_rows for file in shard_files(tmp_path)) == 39
        inside = dataclasses.replace(
            config.manifest, uri=f"{tmp_path}/shards/*.parquet", uri_template=None, image_column="image"
        )
        with pytest.raises(InputError, match="is in the shards of this output"):
            plan_pack(dataclasses.replace(config, manifest=inside, overwrite=True))

    def test_shards_with_unreachable_cutouts_are_left_to_the_next_run(self, tmp_path: Path) -> None:
        for i in range(40):
            (tmp_path / f"{i}.jpg").write_bytes(b"x" * 2000)
        for i in (17, 18):
            (tmp_path / f"{i}.jpg").unlink()
            (tmp_path / f"{i}.jpg").symlink_to("/proc/self/mem")  # an input/output error, and not a missing file
        pq.write_table(pa.table({"object_id": range(40)}), tmp_path / "objects.parquet")
        manifest = {"uri": str(tmp_path / "objects.parquet"), "uri_template": "{object_id}.jpg"}
        values = {"output_uri": str(tmp_path / "out"), "manifest": manifest, "row_group_rows": 4}
        config = dataclasses.replace(parse_config(PackConfig, values), shard_bytes=8 * 2000)
        with pytest.raises(GateError, match=r"2 cutouts \(the first: object_id 17, OSError\), so 1 of 5") as caught:
            pack_cutouts(plan_pack(config))
        assert caught.value.summary["failed"] == caught.value.summary["status_counts"]["unreachable"] == 2
        assert caught.value.summary["shards"] == 4
        before = mtimes(shard_files(tmp_path / "out"))
        assert [file.name for file in before] == [f"shard-00000{i}.parquet" for i in (0, 1, 3, 4)]
        assert not (tmp_path / "out" / "manifest.json").exists()
        for i in (17, 18):
            (tmp_path / f"{i}.jpg").unlink()
            (tmp_path / f"{i}.jpg").write_bytes(b"y")
        summary = pack_cutouts(plan_pack(config))
        assert (summary["rows"], summary["failed"], summary["shards"]) == (40, 0, 5)
        assert mtimes(list(before)) == before

    @pytest.mark.slow
    def test_the_catalog_from_shards_equals_that_from_files(
        self, survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path
    ) -> None:
        packed = pack_cutouts(plan_pack(pack_config(survey, tmp_path / "packed")))

        def catalog(name: str, manifest: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
            values = {
                "release": "made-up",
                "output_uri": str(tmp_path / name),
                "checkpoint_uri": saved_model.uri,
                "max_failed_fraction": 0.5,
                "manifest": {**POSITIONS, **manifest},
                "classify": {"chunk_rows": 4},
                "runtime": {"actors": 1},
            }
            summary = classify_release(plan_release(parse_config(CatalogConfig, values)))
            folder = Path(summary["catalog_uri"])
            files = json.loads((folder / "manifest.json").read_text())["files"]
            tables = [pq.ParquetFile(folder / entry["path"]).read().replace_schema_metadata() for entry in files]
            rows = pa.concat_tables(tables).sort_by("object_id")
            return rows.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get), summary

        from_files, one = catalog("files", {"uri": str(survey.manifest), "uri_template": "images/{object_id}.jpg"})
        from_shards, other = catalog("shards", {"uri": packed["shards_uri"], "image_column": "image"})
        assert list(from_shards) == list(from_files)
        assert len(from_shards) == 40
        missing = from_files["status"] == "missing"
        assert missing.sum() == 1
        assert from_shards.drop(columns="error").equals(from_files.drop(columns="error"))
        assert from_shards[~missing].equals(from_files[~missing])
        assert from_shards.loc[missing, "error"].to_list() == ["no image in the manifest"]
        for key in ("rows", "failed", "flagged", "status_counts", "class_counts", "flag_counts", "model_id"):
            assert one[key] == other[key]


def test_bad_input_exits_with_2_before_ray_starts(tmp_path: Path, call_job: CallJob) -> None:
    config = tmp_path / "pack.toml"
    config.write_text(PACK_TOML.format(output=tmp_path / "out", manifest=tmp_path / "none.csv", images=tmp_path))
    ended = call_job("pack_cutouts", str(config))
    assert ended.code == 2
    assert "manifest.uri" in ended.log
    assert "Traceback" not in ended.log
    assert ended.stdout == ""
