"""Fixtures of the fault tests: a store with a survey, an undisturbed run, and the table of results."""

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
    """A bucket behind a proxy, with a survey of 200 galaxies, twelve of them with a defect."""
    store = S3(s3_process.direct, Proxy(s3_process.address), f"faults-{uuid.uuid4().hex[:12]}")
    store.direct.mkdir(store.bucket)
    folder = tmp_path_factory.mktemp("faults-survey")
    files = write_survey(folder, GALAXIES, seed=23, defects=ONE_OF_EACH_DEFECT, without_position=7)
    table = pacsv.read_csv(files.manifest)
    mixed = table.take(pa.array(np.random.default_rng(5).permutation(len(table))))  # defects in every chunk
    pacsv.write_csv(mixed, files.manifest)
    store.direct.put(str(files.images), f"{store.bucket}/survey/images", recursive=True)
    store.put("survey/objects.csv", files.manifest.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "RAY_ADDRESS"))]:
            patch.delenv(name)
        # requests of the test itself do not pass the proxy
        address = f"http://{s3_process.address[0]}:{s3_process.address[1]}"
        for name, value in {**store.environment, "AWS_ENDPOINT_URL": address}.items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield store
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    store.proxy.close()


@pytest.fixture(scope="session")
def manifest_ids(store: S3) -> list[int]:
    """Ids in the order of the manifest."""
    lines = store.get("survey/objects.csv").decode().splitlines()[1:]
    return [int(line.split(",")[0]) for line in lines]


@pytest.fixture(scope="session")
def undisturbed(
    store: S3, saved_model: SavedModel, manifest_ids: list[int], tmp_path_factory: pytest.TempPathFactory
) -> pa.Table:
    """Rows of a run without faults."""
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
    """An experiment with a new output; its processes are killed after the test."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    store.proxy.forget()
    experiment = Experiment(store, name, tmp_path, saved_model.uri, manifest_ids, undisturbed)
    try:
        yield experiment
    finally:
        experiment.close()
        store.proxy.forget()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the records of an xdist worker to the main process."""
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
