"""What the faults share: one S3 server, one survey in it, one undisturbed run, one table."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from galaxy_batch.synthetic.survey import ONE_OF_EACH_DEFECT, write_survey
from tests.faults.experiment import RECORDS, Experiment, Record, table_of
from tests.support.models import SavedModel
from tests.support.s3_server import S3, Proxy, S3Process

GALAXIES = 200


@pytest.fixture(scope="session")
def store(s3_process: S3Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A bucket with a survey of two hundred galaxies, twelve of them with a defect, behind a proxy."""
    found = S3(s3_process.direct, Proxy(s3_process.address), f"faults-{uuid.uuid4().hex[:12]}")
    found.direct.mkdir(found.bucket)
    folder = tmp_path_factory.mktemp("faults-survey")
    files = write_survey(folder, GALAXIES, seed=23, defects=ONE_OF_EACH_DEFECT, without_position=7)
    table = pacsv.read_csv(files.manifest)
    mixed = table.take(pa.array(np.random.default_rng(5).permutation(len(table))))  # defects in all chunks
    pacsv.write_csv(mixed, files.manifest)
    found.direct.put(str(files.images), f"{found.bucket}/survey/images", recursive=True)
    found.put("survey/objects.csv", files.manifest.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "RAY_ADDRESS"))]:
            patch.delenv(name)
        # the test's own questions go past the proxy
        address = f"http://{s3_process.address[0]}:{s3_process.address[1]}"
        for name, value in {**found.environment, "AWS_ENDPOINT_URL": address}.items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield found
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    found.proxy.close()


@pytest.fixture(scope="session")
def manifest_ids(store: S3) -> list[int]:
    """The ids, in the manifest's order."""
    lines = store.get("survey/objects.csv").decode().splitlines()[1:]
    return [int(line.split(",")[0]) for line in lines]


@pytest.fixture(scope="session")
def undisturbed(
    store: S3, saved_model: SavedModel, manifest_ids: list[int], tmp_path_factory: pytest.TempPathFactory
) -> pa.Table:
    """The rows of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    experiment = Experiment(store, "undisturbed", folder, saved_model.uri, manifest_ids, None)
    store.proxy.forget()
    try:
        ended = experiment.run()
        assert ended.code == 0, ended.stderr
        record = experiment.check("none", times=1)
    finally:
        experiment.close()
    assert (record.written_again, record.read_again) == (0, 0)
    return experiment.rows()


@pytest.fixture
def experiment(
    store: S3, saved_model: SavedModel, manifest_ids: list[int], undisturbed: pa.Table, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Experiment]:  # fmt: skip
    """A new output, whose processes are gone when the test is."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    store.proxy.forget()
    found = Experiment(store, name, tmp_path, saved_model.uri, manifest_ids, undisturbed)
    try:
        yield found
    finally:
        found.close()
        store.proxy.forget()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes (`-n 2`) hands over its lines of the table."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = [vars(record) for record in RECORDS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    RECORDS.extend(Record(**entry) for entry in getattr(node, "workeroutput", {}).get("faults", []))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if RECORDS:
        terminalreporter.section("faults")
        for line in table_of(RECORDS):
            terminalreporter.write_line(line)
