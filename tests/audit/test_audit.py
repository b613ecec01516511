"""`audit_catalog` from the command line: numbers against known classes, refusals, and the gate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.audit.audit import audit_catalog
from galaxy_batch.audit.config import AuditConfig
from galaxy_batch.audit.estimate import estimate_share, weighted_sample
from galaxy_batch.audit.population import class_numbers, count_population, fine_bins
from galaxy_batch.catalog.manifest import manifest_content, require_manifest
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.review_queue.draw import Drawing
from tests.support.jobs import CallJob
from tests.support.reviews import KnownCatalog, write_verdicts
from tests.support.skies import CLASSES, read_catalog


def audited(
    catalog: KnownCatalog, name: str, share: float = 1, **draws: object
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Summary and `audit.json` of an audit by a new queue."""
    catalog.queue(name, **draws)
    folder = write_verdicts(catalog.path, name, catalog.verdicts, share)
    summary = audit_catalog(AuditConfig(str(catalog.path), str(folder)))
    return summary, json.loads(Path(summary["audit_uri"]).read_text())


def test_the_job_estimates_the_accuracy(known_catalog: KnownCatalog, call_job: CallJob) -> None:
    before = manifest_content(str(known_catalog.path))
    known_catalog.queue("job", uniform=400, flags=("LOW_CONFIDENCE",))
    folder = write_verdicts(known_catalog.path, "job", known_catalog.verdicts)
    ended = call_job("audit_catalog", str(known_catalog.path), "--verdicts", str(folder))
    assert ended.code == 0, ended.log
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert summary["catalog_uri"] == str(known_catalog.path)
    assert summary["accuracy_low"] < known_catalog.accuracy < summary["accuracy_high"]
    assert summary["accuracy_high"] - summary["accuracy_low"] < 0.08
    mean = known_catalog.rows["confidence"].mean()
    assert summary["expected_accuracy"] == pytest.approx(mean, abs=0.01)
    assert summary["holds"] is True
    assert "The stated confidence holds on this survey" in Path(summary["report_uri"]).read_text()
    assert Path(summary["report_uri"]) == known_catalog.path.parent / "audit" / "job" / "index.html"
    assert Path(summary["report_uri"]).is_file()
    assert summary["gates_crossed"] == []
    assert manifest_content(str(known_catalog.path)) == before
    assert verify_catalog(str(known_catalog.path)) == []


def test_a_complete_review_gives_the_exact_numbers(known_catalog: KnownCatalog) -> None:
    rows = known_catalog.rows
    summary, content = audited(known_catalog, "all", uniform=len(rows))
    verdicts = rows["object_id"].map(known_catalog.verdicts)
    assert summary["accuracy"] == summary["accuracy_low"] == pytest.approx(known_catalog.accuracy)
    assert summary["artifact_share"] == pytest.approx((verdicts == "artifact").mean())
    galaxies, right = verdicts != "artifact", verdicts == rows["predicted_class"]
    for of in content["classes"]:
        predicted, called = rows["predicted_class"] == of["name"], verdicts == of["name"]
        assert of["rows"] == predicted.sum()
        assert of["purity"]["value"] == pytest.approx(right[predicted & galaxies].mean())
        assert of["completeness"]["value"] == pytest.approx(right[called].mean())
        assert of["share"]["value"] == pytest.approx(called.mean())
    for group, low, high in zip(content["bins"], (0.5, 0.6, 0.7), (0.6, 0.7, 0.8), strict=False):
        member = (rows["confidence"] >= low) & (rows["confidence"] < high)
        assert group["rows"] == member.sum()
        assert group["accuracy"]["value"] == pytest.approx(right[member & galaxies].mean())
        assert group["confidence"] == pytest.approx(rows["confidence"][member].mean(), rel=1e-6)
    flags = {group["name"]: group for group in content["flags"]}
    flagged = (rows["review_flags"] & 1) != 0
    assert flags["LOW_CONFIDENCE"]["accuracy"]["value"] == pytest.approx(right[flagged & galaxies].mean())
    assert sum(group["rows"] for group in content["bins"]) == content["classified"] == len(rows)


@pytest.mark.parametrize(
    "draws",
    [
        {"uniform": 300},
        {"stratified": 40},
        {"optimal": 200},
        {"per_class": 150},
        {"audit": True},
        {"uniform": 200, "least_confident": 99},
    ],
)
def test_every_random_draw_gives_the_accuracy(known_catalog: KnownCatalog, draws: dict[str, Any]) -> None:
    summary, _ = audited(known_catalog, "-".join(draws), **draws)
    middle = (summary["accuracy_high"] + summary["accuracy_low"]) / 2
    reach = (summary["accuracy_high"] - summary["accuracy_low"]) / 2
    assert abs(known_catalog.accuracy - middle) < 1.7 * reach


def test_what_could_not_be_drawn_is_not_estimated(known_catalog: KnownCatalog) -> None:
    summary, content = audited(known_catalog, "doubtful", flags=("LOW_CONFIDENCE",))
    assert summary["accuracy"] is summary["accuracy_low"] is summary["accuracy_high"] is summary["holds"] is None
    assert "could not be drawn" in content["not_covered"]
    assert content["artifact_share"]["value"] is None
    flags = {group["name"]: group["accuracy"]["value"] for group in content["flags"]}
    assert flags["LOW_CONFIDENCE"] is not None
    assert flags["no flag"] is None
    bins = {group["name"]: group["accuracy"]["value"] for group in content["bins"]}
    assert bins["0.5 to 0.6"] is not None
    assert bins["0.99 to 1"] is None
    page = Path(summary["report_uri"]).read_text()
    assert "cannot be estimated: the verdicts are only on galaxies that were drawn for a reason" in page


def test_half_of_a_queue_is_wider_and_not_biased(known_catalog: KnownCatalog) -> None:
    draws: dict[str, Any] = {"uniform": 400, "least_confident": 400}
    whole, half = (audited(known_catalog, f"part{share}", share, **draws)[0] for share in (1, 0.5))
    assert half["accuracy_low"] < known_catalog.accuracy < half["accuracy_high"]
    assert half["accuracy_high"] - half["accuracy_low"] > whole["accuracy_high"] - whole["accuracy_low"]


def test_an_overconfident_catalog_is_named(known_catalog: KnownCatalog) -> None:
    known_catalog.queue("over", uniform=300)
    rng = np.random.default_rng(2)
    wrong = {key: str(rng.choice(CLASSES)) for key in known_catalog.verdicts}
    folder = write_verdicts(known_catalog.path, "over", wrong)
    config = AuditConfig(str(known_catalog.path), str(folder), min_accuracy=0.9)
    with pytest.raises(GateError, match=r"the limit is 0\.9") as ended:
        audit_catalog(config)
    assert ended.value.summary["holds"] is False
    assert ended.value.summary["gates_crossed"] == ["min_accuracy"]
    assert "too high by" in Path(ended.value.summary["report_uri"]).read_text()
    assert audit_catalog(AuditConfig(str(known_catalog.path), str(folder), min_accuracy=0.4))["gates_crossed"] == []


def test_a_gate_that_cannot_be_computed_is_crossed(known_catalog: KnownCatalog, call_job: CallJob) -> None:
    known_catalog.queue("least", least_confident=50)
    folder = write_verdicts(known_catalog.path, "least", known_catalog.verdicts)
    ended = call_job("audit_catalog", str(known_catalog.path), "--verdicts", str(folder), "--min-accuracy", "0.1")
    assert ended.code == 3
    assert "the accuracy is not known" in ended.log
    assert json.loads(ended.stdout.splitlines()[-1])["accuracy"] is None


def test_undecided_galaxies_are_left_out_and_counted(known_catalog: KnownCatalog) -> None:
    known_catalog.queue("unsure", uniform=300)
    verdicts = {key: None if key % 5 == 0 else value for key, value in known_catalog.verdicts.items()}
    folder = write_verdicts(known_catalog.path, "unsure", verdicts)
    summary = audit_catalog(AuditConfig(str(known_catalog.path), str(folder)))
    content = json.loads(Path(summary["audit_uri"]).read_text())
    assert summary["undecided"] == content["undecided"] > 30
    assert content["verdicts"] + content["artifacts"] + content["undecided"] == content["looked_at"] == 300
    assert content["accuracy_if_undecided_wrong"] < summary["accuracy"] - 0.1
    page = Path(summary["report_uri"]).read_text()
    assert "People did not decide on" in page


def test_verdicts_on_other_objects_are_an_error(known_catalog: KnownCatalog) -> None:
    known_catalog.queue("elsewhere", uniform=20)
    folder = write_verdicts(known_catalog.path, "elsewhere", {}, release=["another"] * 20)
    with pytest.raises(InputError, match="no verdict is on a row of the catalog that counts"):
        audit_catalog(AuditConfig(str(known_catalog.path), str(folder)))
    with pytest.raises(InputError, match="inside the catalog's folder"):
        audit_catalog(AuditConfig(str(known_catalog.path), str(folder), report_uri=f"{known_catalog.path}/audit"))


def coverage_of_queues(catalog: KnownCatalog, queues: int, **draws: object) -> float:
    """Share of the queues, drawn as `review_queue` does, whose interval has the accuracy."""
    manifest, rows = require_manifest(str(catalog.path)), read_catalog(catalog.path)
    population, _ = count_population(str(catalog.path), manifest, pa.array([], pa.int64()))
    covered = []
    for seed in range(queues):
        config = ReviewQueueConfig(str(catalog.path), seed=seed, **draws)  # type: ignore[arg-type]
        drawing = Drawing(config, manifest, rows.schema)
        drawing.add(rows, 0, 0)
        drawn = drawing.rows(lambda places: rows.take([place.row for place in places])).rows
        verdict = np.array([catalog.verdicts[key] for key in drawn["object_id"].to_pylist()])
        predicted, probability = class_numbers(drawn, CLASSES), drawn["inclusion_probability"].to_numpy()
        sample = weighted_sample(probability, predicted, fine_bins(drawn), population.counts)
        estimate = estimate_share(sample, verdict != "artifact", verdict == np.array(CLASSES)[predicted])
        covered.append(estimate.low <= catalog.accuracy <= estimate.high)
    return float(np.mean(covered))


UNION = {"uniform": 150, "stratified": 15, "flags": ("LOW_CONFIDENCE",), "flags_rows": 50, "least_confident": 40}


def test_the_interval_covers_with_the_draws_of_review_queue(known_catalog: KnownCatalog) -> None:
    assert coverage_of_queues(known_catalog, 100, **UNION) >= 0.9


@pytest.mark.slow
def test_the_interval_covers_in_a_thousand_queues(known_catalog: KnownCatalog) -> None:
    assert 0.93 <= coverage_of_queues(known_catalog, 1000, **UNION) <= 0.97
