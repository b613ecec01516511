"""Verdict tables as an audit reads them: what counts, and with which probability."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.audit.config import AuditConfig
from galaxy_batch.audit.verdicts import AuditVerdicts, read_verdicts, verdicts_uri
from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.queue import read_queue
from tests.support.reviews import KnownCatalog, write_verdicts


def read(catalog: KnownCatalog, folder: Path, **settings: object) -> AuditVerdicts:
    config = AuditConfig(str(catalog.path), str(folder), **settings)  # type: ignore[arg-type]
    return read_verdicts(config, require_manifest(str(catalog.path)))


def changed(folder: Path, name: str, values: pa.Array) -> None:
    file = folder / "reviewed.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(table.column_names.index(name), name, values), file)


def of_queues(folder: Path, *names: str) -> None:
    (folder / "import.json").write_text(json.dumps({"format": 1, "queues": names}))


@pytest.fixture
def folder(known_catalog: KnownCatalog) -> Path:
    known_catalog.queue("read", uniform=100, least_confident=20)
    return write_verdicts(known_catalog.path, "read", known_catalog.verdicts)


def test_a_complete_queue_has_its_own_probabilities(known_catalog: KnownCatalog, folder: Path) -> None:
    verdicts = read(known_catalog, folder)
    queue = read_queue(str(known_catalog.path.parent / "review" / "read"))
    assert queue is not None
    assert verdicts.rows["object_id"].equals(queue.rows["object_id"])
    np.testing.assert_allclose(verdicts.rows["probability"], queue.rows["inclusion_probability"])
    assert verdicts.left_out == {}
    assert verdicts.looked_at == len(queue.rows)


def test_a_half_done_queue_has_half_the_probabilities(known_catalog: KnownCatalog) -> None:
    known_catalog.queue("half", uniform=100, least_confident=100)
    verdicts = read(known_catalog, write_verdicts(known_catalog.path, "half", known_catalog.verdicts, share=0.5))
    classified = len(known_catalog.rows)
    probability = verdicts.rows["probability"].to_numpy()
    certain = probability > 0.2
    assert (1 / probability).sum() == pytest.approx(classified, rel=0.02)
    assert (1 / probability[certain]).sum() == pytest.approx(100, rel=0.01)


def test_ties_and_unsure_are_undecided(known_catalog: KnownCatalog, folder: Path) -> None:
    count = len(pq.read_table(folder / "reviewed.parquet"))
    probability = np.ones(count)
    probability[:5], probability[5:8] = 0.5, 0.6
    changed(folder, "reviewed_probability", pa.array(probability))
    assert read(known_catalog, folder).rows["verdict"].null_count == 5
    assert read(known_catalog, folder, min_probability=0.6).rows["verdict"].null_count == 8
    changed(folder, "reviewed_class", pa.array([None, *["smooth"] * (count - 1)]))
    assert read(known_catalog, folder, min_probability=0).rows["verdict"].null_count == 1


def test_other_catalogs_and_objects_outside_of_the_queue_are_left_out(
    known_catalog: KnownCatalog, folder: Path
) -> None:
    table = pq.read_table(folder / "reviewed.parquet")
    releases = [None, "another", *table["release"].to_pylist()[2:]]
    changed(folder, "release", pa.array(releases))
    outside = pa.concat_tables([pq.read_table(folder / "reviewed.parquet"), table.slice(5, 1)])
    ids = pa.array([*outside["object_id"].to_pylist()[:-1], 17])
    pq.write_table(outside.set_column(0, "object_id", ids), folder / "reviewed.parquet")
    assert read(known_catalog, folder).left_out == {"of another catalog": 2, "not of the queue": 1}


def test_without_the_queues_folder_the_table_has_the_probabilities(known_catalog: KnownCatalog, folder: Path) -> None:
    of_queues(folder, "gone")
    table = pq.read_table(folder / "reviewed.parquet")
    values = [None, 0.0, 1.5, *table["inclusion_probability"].to_pylist()[3:]]
    changed(folder, "inclusion_probability", pa.array(values))
    verdicts = read(known_catalog, folder)
    assert verdicts.queue is None
    assert verdicts.left_out == {"without an inclusion probability": 3}
    np.testing.assert_allclose(verdicts.rows["probability"], values[3:])


def test_verdicts_of_several_queues_need_a_choice(known_catalog: KnownCatalog, folder: Path) -> None:
    of_queues(folder, "read", "other")
    with pytest.raises(InputError, match="name one of other, read"):
        read(known_catalog, folder)
    assert read(known_catalog, folder, queue="read").looked_at > 100
    with pytest.raises(InputError, match="no such queue"):
        read(known_catalog, folder, queue="other")


def test_a_queue_of_another_catalog_does_not_count(known_catalog: KnownCatalog, folder: Path) -> None:
    record = known_catalog.path.parent / "review" / "read" / "queue.json"
    content = record.read_text()
    changed_record = json.loads(content)
    changed_record["catalog"]["model_id"] = "another"
    record.write_text(json.dumps(changed_record))
    try:
        assert read(known_catalog, folder).queue is None
        for name, message in (("read", "was drawn from another catalog"), ("../read", "no such queue")):
            with pytest.raises(InputError, match=message):
                read(known_catalog, folder, queue=name)
    finally:
        record.write_text(content)


def test_tables_that_cannot_be_of_an_import(known_catalog: KnownCatalog, folder: Path) -> None:
    count = len(pq.read_table(folder / "reviewed.parquet"))
    changed(folder, "reviewed_class", pa.array(["zebra"] * count))
    with pytest.raises(InputError, match="the catalog has no class 'zebra'"):
        read(known_catalog, folder)
    (folder / "import.json").unlink()  # the import did not finish
    with pytest.raises(InputError, match=r"no import\.json"):
        read(known_catalog, folder)


def test_bad_folders(known_catalog: KnownCatalog, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="verdicts_uri"):
        read(known_catalog, tmp_path)
    changed(folder, "object_id", pa.array([f"J{n}" for n in range(len(pq.read_table(folder / "reviewed.parquet")))]))
    with pytest.raises(InputError, match="of another catalog"):
        read(known_catalog, folder)
    (folder / "reviewed.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="verdicts_uri"):
        read(known_catalog, folder)
    beside = str(known_catalog.path.parent / "review" / "verdicts" / "verdicts")
    assert verdicts_uri(AuditConfig(str(known_catalog.path))) == beside
