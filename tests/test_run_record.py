import json
from pathlib import Path

import pytest

from galaxy_batch.catalog.counts import total_counts
from galaxy_batch.errors import GateError
from galaxy_batch.plan import ReleasePlan, plan_release
from galaxy_batch.run_record import RunRecord, catalog_provenance
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import catalog_config
from tests.support.models import SavedModel


@pytest.fixture
def plan(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> ReleasePlan:
    return plan_release(catalog_config(survey, saved_model, tmp_path))


def test_a_record_says_how_the_run_goes_and_ended(plan: ReleasePlan) -> None:
    with RunRecord(plan) as run:
        path = Path(plan.layout.run(run.run_id))
        assert json.loads(path.read_text())["state"] == "running"
        with run.step("classify"):
            pass
        run.summary = run.summarize(total_counts([]), None)
    record = json.loads(path.read_text())
    assert (record["state"], record["fingerprint"]) == ("done", plan.layout.fingerprint)
    assert record["summary"]["step_seconds"].keys() == {"classify"}
    assert record["summary"]["computed_rows"] == 40


@pytest.mark.parametrize(("error", "summary"), [(GateError("bad", {"rows": 3}), {"rows": 3}), (OSError("lost"), {})])
def test_an_error_is_recorded_and_raised(plan: ReleasePlan, error: Exception, summary: dict[str, int]) -> None:
    run = RunRecord(plan)
    with pytest.raises(type(error)), run:
        raise error
    record = json.loads(Path(plan.layout.run(run.run_id)).read_text())
    assert (record["state"], record["error"], record["summary"]) == ("failed", type(error).__name__, summary)


def test_the_provenance_has_the_limits_that_were_decided(plan: ReleasePlan) -> None:
    provenance = catalog_provenance(plan, "run", {"object_id": "int64"}, None)
    assert (provenance.min_confidence, provenance.max_unfamiliarity) == (plan.checkpoint.min_confidence, None)
    assert (provenance.manifest_rows, provenance.release) == (40, "made-up")
