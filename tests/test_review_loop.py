"""From a catalog to a better checkpoint: the commands of the README, on a simulated survey."""

import json
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from galaxy_batch.config import CatalogConfig
from galaxy_batch.model.checkpoint import read_checkpoint
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.survey import SurveyFiles, make_objects, write_survey
from tests.support.configs import POSITIONS
from tests.support.documents import README, blocks, section
from tests.support.jobs import CallJob
from tests.support.skies import read_catalog

_GALAXIES, _SEED = 200, 52
TRAINING = (
    "network.architecture=test_efficientnet", "network.weights=random", "network.size_px=64", "network.views=1",
    "network.crop_fraction=0.7", "fit.head.epochs=0", "fit.blocks.epochs=16", "fit.blocks.blocks=99",
    "fit.blocks.learning_rate=3e-3", "fit.schedule=cosine", "fit.batch_norm=train", "fit.batch_size=32",
    "split.calibration_fraction=0.3", "threads=1", "device=cpu",
)  # fmt: skip


def _training(votes: Path) -> list[str]:
    return [word for setting in (*TRAINING, f"galaxies.uri={votes}") for word in ("--set", setting)]


def _catalog_of(survey: SurveyFiles, checkpoint_uri: str, folder: Path) -> str:
    values = {
        "release": "made-up",
        "output_uri": str(folder),
        "checkpoint_uri": checkpoint_uri,
        "manifest": {"uri": str(survey.manifest), "uri_template": "images/{object_id}.jpg", **POSITIONS},
        "report": {"enabled": False},
    }
    config = parse_config(CatalogConfig, values)
    return str(classify_release(plan_release(config), on_ray=False)["catalog_uri"])


def _accuracy(catalog_uri: str, true_classes: dict[int, str], left_out: set[int]) -> float:
    rows = read_catalog(catalog_uri).select(["object_id", "predicted_class"]).to_pylist()
    right = [
        row["predicted_class"] == true_classes[row["object_id"]] for row in rows if row["object_id"] not in left_out
    ]
    return sum(right) / len(right)


@pytest.mark.timeout(300)
def test_the_commands_lead_from_a_catalog_to_a_better_checkpoint(tmp_path: Path, call_job: CallJob) -> None:
    voted = write_survey(tmp_path / "voted", galaxies=60, seed=_SEED + 1)
    release = write_survey(tmp_path / "release", galaxies=_GALAXIES, seed=_SEED)
    truth = make_objects(_GALAXIES, _SEED)
    true_classes = dict(zip(truth["object_id"].to_pylist(), truth["true_class"].to_pylist(), strict=True))
    first = f"output_uri={tmp_path / 'first'}"
    ended = call_job("train_model", "jobs/configs/train_gz2.toml", *_training(voted.votes), "--set", first)
    assert ended.code == 0, ended.log
    catalog = _catalog_of(release, str(tmp_path / "first" / "model.safetensors"), tmp_path / "catalogs")
    verdicts_csv = tmp_path / "verdicts.csv"
    folder = Path(catalog).parent / "review"
    places = {"CATALOG": catalog, "verdicts.csv": str(verdicts_csv), "VERDICTS": str(folder / "verdicts" / "verdicts")}
    lines = "".join(blocks("sh", section("Review, audit, improve", README))).splitlines()
    summaries = {}
    for line in lines:
        command = shlex.split(line)
        job, *arguments = command[command.index("-m") + 1 :]
        for name, place in places.items():
            arguments = [word.replace(name, place) for word in arguments]
        if job == "jobs.train_model":
            arguments += _training(voted.votes)
            arguments[arguments.index("output_uri=runs/second")] = f"output_uri={tmp_path / 'second'}"
        if job == "jobs.review_queue":
            arguments = [{"200": "60"}.get(word, word) for word in arguments]
        ended = call_job(job.removeprefix("jobs."), *arguments)
        assert ended.code == 0, ended.log
        summaries[job] = json.loads(ended.stdout.splitlines()[-1])
        if job == "jobs.review_queue":  # a reviewer who knows the simulated survey
            queue = pq.read_table(folder / "first-look" / "queue.parquet")
            known = truth["true_class"].take(pc.index_in(queue["object_id"], value_set=truth["object_id"]))
            table = queue.select(["object_id"]).append_column("verdict", known)
            pacsv.write_csv(table.append_column("queue", pa.array(["first-look"] * len(queue))), verdicts_csv)

    audit, looked_at = summaries["jobs.audit_catalog"], set(queue["object_id"].to_pylist())
    assert audit["accuracy_low"] <= _accuracy(catalog, true_classes, set()) <= audit["accuracy_high"]
    checkpoint = read_checkpoint(str(tmp_path / "second" / "model.safetensors")).checkpoint
    (origin,) = checkpoint.training["verdicts"]["tables"]
    assert origin["counts"]["used"] + origin["counts"]["held_out"] == len(looked_at) > 80
    better = _catalog_of(release, str(tmp_path / "second" / "model.safetensors"), tmp_path / "catalogs")
    before, after = (_accuracy(uri, true_classes, looked_at) for uri in (catalog, better))
    assert after > before + 0.02, (before, after)
