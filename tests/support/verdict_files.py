"""Files with verdicts, as the review page, Zooniverse and Label Studio write them."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from galaxy_batch.verdicts.config import ImportConfig
from galaxy_batch.verdicts.records import Answer, Problem, RecordReader, UnusableRecord
from tests.support.skies import MODEL_ID, RELEASE

VERDICTS = ["smooth", "featured", "artifact", "unsure"]
PAGE_COLUMNS = ["object_id", "verdict", "reviewer", "time", "queue", "release", "model_id", "position"]
ZOONIVERSE_COLUMNS = [
    "classification_id", "user_name", "user_id", "user_ip", "workflow_id", "workflow_name", "workflow_version",
    "created_at", "gold_standard", "expert", "metadata", "annotations", "subject_data", "subject_ids",
]  # fmt: skip
FEATURES = "![feature_or_disk.png](https://panoptes-uploads.example/f353f2f1.png) Features or Disk"
RETIRED = {
    "id": 1234, "workflow_id": 6122, "classifications_count": 40, "created_at": "2026-11-01T10:00:00.000Z",
    "updated_at": "2026-11-20T10:00:00.000Z", "retired_at": "2026-11-20T10:00:00.000Z", "subject_id": 99,
    "retirement_reason": "classification_count",
}  # fmt: skip


def page_row(object_id: object, verdict: str, reviewer: str = "Anna", second: int = 0, **fields: Any) -> dict[str, Any]:
    row = {
        "object_id": object_id, "verdict": verdict, "reviewer": reviewer,
        "time": f"2026-11-26T18:{second // 60:02d}:{second % 60:02d}Z",
        "queue": "", "release": RELEASE, "model_id": MODEL_ID, "position": 1,
    }  # fmt: skip
    return {**row, **fields}


def classification(object_id: object, value: Any, user: str = "volunteer", **fields: Any) -> dict[str, Any]:
    """A line of a classification export with one question; `annotations` and `subject` replace what is JSON."""
    annotations = fields.pop("annotations", [{"task": "T0", "task_label": "Smooth?", "value": value}])
    subject = fields.pop("subject", {"retired": RETIRED, "#object_id": str(object_id), "Filename": "1.jpg"})
    row: dict[str, Any] = dict.fromkeys(ZOONIVERSE_COLUMNS, "")
    row |= {
        "classification_id": 1, "user_name": user, "user_id": "" if user.startswith("not-logged-in") else 7,
        "user_ip": "2c61707e96c97a759840", "workflow_id": 6122, "workflow_name": "First look",
        "workflow_version": "28.30", "created_at": "2026-11-20 10:44:42 UTC",
        "metadata": json.dumps({"session": "e69d40c9", "user_agent": "Mozilla/5.0", "viewport": {"width": 1081}}),
        "annotations": json.dumps(annotations), "subject_data": json.dumps({"99": subject}), "subject_ids": 99,
    }  # fmt: skip
    return {**row, **fields}


def labelled_task(data: dict[str, Any], *annotations: dict[str, Any]) -> dict[str, Any]:
    """A task of Label Studio's JSON."""
    return {"id": 1, "data": data, "annotations": list(annotations), "predictions": [], "drafts": []}


def annotation(choices: Sequence[str], by: Any = 3, **fields: Any) -> dict[str, Any]:
    """An annotation of a task."""
    result = [
        {"id": "a1", "from_name": "verdict", "to_name": "image", "type": "choices", "value": {"choices": list(choices)}}
    ]
    return {
        "id": 11, "completed_by": by, "result": result, "was_cancelled": False, "ground_truth": False,
        "created_at": "2026-11-20T10:00:00.5Z", "updated_at": "2026-11-20T11:00:00Z", "lead_time": 4.2, **fields,
    }  # fmt: skip


def write_csv(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def import_config(catalog: Path, *files: Path, **settings: Any) -> ImportConfig:
    return ImportConfig(str(catalog), tuple(map(str, files)), **settings)


def answer_or_problem(reader: RecordReader, content: Any) -> Answer | Problem:
    """What a reader makes of a record."""
    try:
        return reader.answer(content)
    except UnusableRecord as bad:
        return bad.problem
