"""The Zooniverse subject set: what volunteers see and do not see, and the limit of a picture."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from galaxy_batch.review_queue.zooniverse import subject_fields, write_subject_set
from tests.support.files import contents_of, mtimes
from tests.support.queues import new_queue, publish_with_cutouts
from tests.support.skies import MODEL_ID, RELEASE, sky_rows


def noisy_png(side_px: int) -> bytes:
    sink = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (side_px, side_px, 3), np.uint8)
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def manifest_rows(uri: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(Path(uri).read_text().splitlines()))


@pytest.mark.parametrize("text_ids", [False, True])
def test_a_subject_set_has_what_identifies_a_galaxy_and_hides_the_prediction(tmp_path: Path, text_ids: bool) -> None:
    rows = sky_rows(100, seed=1, text_ids=text_ids)
    ids = rows.filter(rows["predicted_class"].is_valid())["object_id"].to_pylist()
    catalog = publish_with_cutouts(tmp_path, rows, {ids[1]: noisy_png(800)})
    (tmp_path / "cutouts" / f"{ids[0]}.jpg").write_bytes(b"broken")
    queue = new_queue(catalog, uniform=1000)
    summary = write_subject_set(queue)
    assert summary["manifest_uri"] == f"{queue.uri}/zooniverse/manifest.csv"
    assert (summary["subjects"], summary["left_out"]) == (len(queue.rows) - 1, 1)
    subjects = manifest_rows(summary["manifest_uri"])
    shown = queue.rows.filter(queue.rows["picture"].is_valid()).to_pylist()
    assert [subject["object_id"] for subject in subjects] == [str(row["object_id"]) for row in shown]
    assert [name for name in subjects[0] if not name.startswith("#")] == ["object_id", "image"]
    for subject, row in zip(subjects, shown, strict=True):
        assert subject == subject_fields(queue, row)
        assert subject["#predicted_class"] == row["predicted_class"]
        assert float(subject["#confidence"]) == pytest.approx(row["confidence"])
        assert float(subject["#inclusion_probability"]) == row["inclusion_probability"]
        assert subject["#reason"] == row["reason"]
        assert (subject["#queue"], subject["#release"], subject["#model_id"]) == ("queue", RELEASE, MODEL_ID)
        picture = Path(queue.uri, "zooniverse", subject["image"]).read_bytes()
        assert len(picture) <= 1_000_000
        original = Path(queue.uri, row["picture"]).read_bytes()
        assert (picture == original) == (row["object_id"] != ids[1])
        with Image.open(io.BytesIO(picture)) as image:
            image.load()


def test_writing_it_again_changes_nothing(tmp_path: Path) -> None:
    catalog = publish_with_cutouts(tmp_path, sky_rows(60))
    queue = new_queue(catalog, uniform=10)
    write_subject_set(queue)
    folder = Path(queue.uri) / "zooniverse"
    before = contents_of(folder), mtimes(sorted(folder.glob("*.jpg")))
    write_subject_set(queue)
    assert (contents_of(folder), mtimes(sorted(folder.glob("*.jpg")))) == before


def test_a_queue_without_pictures_is_an_empty_set(tmp_path: Path) -> None:
    catalog = publish_with_cutouts(tmp_path, sky_rows(60))
    (tmp_path / "cutouts").rename(tmp_path / "gone")
    queue = new_queue(catalog, uniform=10)
    summary = write_subject_set(queue)
    assert (summary["subjects"], summary["left_out"]) == (0, 10)
    assert isinstance(queue.rows, pa.Table)
    assert manifest_rows(summary["manifest_uri"]) == []
