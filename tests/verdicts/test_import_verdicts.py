"""`import_verdicts` from the command line: tables, counts, and errors before anything is written."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.queue import ReviewQueue, catalog_entry, queue_schema, queue_uri, write_queue
from galaxy_batch.reviewed_objects import read_reviewed, reviewed_schema
from galaxy_batch.verdicts.import_verdicts import import_verdicts
from galaxy_batch.verdicts.table import rejected_schema, verdicts_schema
from tests.support.jobs import CallJob
from tests.support.skies import CLASSES, publish_rows, read_catalog, sky_rows
from tests.support.verdict_files import (
    FEATURES,
    PAGE_COLUMNS,
    annotation,
    classification,
    import_config,
    labelled_task,
    page_row,
    write_csv,
    write_json,
)

Row = dict[str, Any]

ROWS = 400
ANSWERS = {"Features or Disk": "featured"}


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return publish_rows(tmp_path, sky_rows(ROWS, seed=3, without_position=0.1), max_rows=150)


@pytest.fixture
def ids(catalog: Path) -> list[int]:
    found: list[int] = read_catalog(catalog)["object_id"].to_pylist()
    return found


def tables(
    summary: dict[str, Any],
) -> tuple[list[dict[str, Any]], dict[int | str, dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the verdicts; of the reviewed objects by id; and rejected records."""
    verdicts, reviewed, rejected = (
        pq.read_table(f"{summary['verdicts_uri']}/{name}.parquet").to_pylist()
        for name in ("verdicts", "reviewed", "rejected")
    )
    assert len(verdicts) + len(rejected) == summary["records"] == summary["accepted"] + summary["rejected"]
    assert len({(row["object_id"], row["reviewer"]) for row in verdicts}) == len(verdicts)
    assert Counter(row["problem"] for row in rejected) == summary["problems"]
    return verdicts, {row["object_id"]: row for row in reviewed}, rejected


def make_queue(catalog: Path, ids: list[int], name: str, **entry: Any) -> None:
    """A queue of some galaxies, each with an inclusion probability of its own."""
    schema = queue_schema(pa.int64(), CLASSES)
    rows = [
        {"position": n, "object_id": one, "reason": f"reason {n}", "inclusion_probability": 1 / n}
        for n, one in enumerate(ids, 1)
    ]
    record = {
        "name": name, "created": "", "seed": 0, "classes": list(CLASSES), "verdicts": [*CLASSES, "artifact", "unsure"],
        "catalog": {**catalog_entry(str(catalog), require_manifest(str(catalog))), **entry}, "draws": [],
        "rows": len(ids), "pictures": 0,
    }  # fmt: skip
    write_queue(ReviewQueue(queue_uri(str(catalog), name), record, pa.Table.from_pylist(rows, schema=schema)))


def test_three_tools_in_one_table(catalog: Path, ids: list[int], tmp_path: Path, call_job: CallJob) -> None:
    a, b, c = ids[:3]
    page = write_csv(tmp_path / "page.csv", [page_row(a, "smooth", "Anna"), page_row(b, "artifact", "Anna")])
    zooniverse = write_csv(
        tmp_path / "classifications.csv",
        [classification(a, FEATURES, "mike"), classification(a, "Smooth", "not-logged-in-0a1b"),
         classification(c, "Unsure", "mike", workflow_version="29.1")],
    )  # fmt: skip
    labels = write_json(tmp_path / "tasks.json", [labelled_task({"object_id": str(c)}, annotation(["featured"]))])
    before = {path: path.read_bytes() for path in catalog.rglob("*") if path.is_file()}
    ended = call_job(
        "import_verdicts", str(catalog), "--from", f"{page},{zooniverse},{labels}",
        "--set", 'answers={"features or disk" = "featured"}',
    )  # fmt: skip
    assert ended.code == 0, ended.log
    summary = json.loads(ended.stdout.splitlines()[-1])
    verdicts, reviewed, rejected = tables(summary)
    assert Path(summary["verdicts_uri"]) == catalog.parent / "review" / "verdicts" / "verdicts"
    assert rejected == []
    assert {(row["object_id"], row["verdict"], row["source"]) for row in verdicts} == {
        (a, "smooth", "page"), (b, "artifact", "page"), (a, "featured", "zooniverse"), (a, "smooth", "zooniverse"),
        (c, "unsure", "zooniverse"), (c, "featured", "label_studio"),
    }  # fmt: skip
    assert all(row["reviewer"].startswith("reviewer-") for row in verdicts)
    of_mike = {
        row["reviewer"] for row in verdicts if row["verdict"] in ("featured", "unsure") and row["object_id"] != b
    }
    assert len(of_mike) == 2, "mike and somebody in Label Studio"
    assert (reviewed[a]["reviewed_class"], reviewed[a]["verdicts"]) == ("smooth", 3)
    assert reviewed[a]["reviewed_probability"] == pytest.approx(2 / 3)
    assert reviewed[a]["reviewed_by"] == ";".join(sorted(r["reviewer"] for r in verdicts if r["object_id"] == a))
    assert reviewed[a]["reviewed_at"].isoformat() == "2026-11-26T18:00:00+00:00"
    assert (reviewed[b]["reviewed_class"], reviewed[b]["reviewed_probability"]) == ("artifact", 1)
    assert (reviewed[c]["reviewed_class"], reviewed[c]["verdicts"]) == ("featured", 2)
    assert summary["merge"] == "majority"
    assert (summary["objects"], summary["decided"], summary["disputed"], summary["reviewers"]) == (3, 3, 1, 4)
    record = json.loads(Path(summary["verdicts_uri"], "import.json").read_text())
    assert [file["format"] for file in record["files"]] == ["page", "zooniverse", "label_studio"]
    assert record["files"][1]["workflows"] == {"6122 28.30": 2, "6122 29.1": 1}
    assert {path: path.read_bytes() for path in before} == before
    assert verify_catalog(str(catalog)) == []


def test_what_is_rejected_is_named_counted_and_kept(
    catalog: Path, ids: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = ids[:2]
    rows = [
        page_row(a, "smooth", "Anna", 30),
        page_row(a, "smooth", "Anna", 10),
        page_row(a, "featured", "Anna", 20),
        page_row(a, "featured", "Ben", 20),
        page_row(a + 1, "smooth"),
        page_row("1.23765E+18", "smooth"),
        page_row("nonsense", "smooth"),
        page_row(b, "smoooth"),
        page_row(b, ""),
        page_row(b, "smooth", release="another"),
        page_row(b, "smooth", model_id="feed"),
        page_row(b, "featured", "Ben", release="", model_id=""),
    ]
    file = write_csv(tmp_path / "page.csv", rows, PAGE_COLUMNS)
    file.write_text(file.read_text() + "1,2\n")
    summary = import_verdicts(import_config(catalog, file))
    verdicts, reviewed, rejected = tables(summary)
    assert summary["problems"] == {
        "unreadable": 1, "damaged_id": 1, "unknown_object": 2, "other_catalog": 2, "unknown_verdict": 1, "no_answer": 1,
        "repeated": 1, "contradicted": 1,
    }  # fmt: skip
    assert {(row["object_id"], row["verdict"], row["time"].second) for row in verdicts} == {
        (a, "smooth", 30), (a, "featured", 20), (b, "featured", 0),
    }  # fmt: skip
    assert reviewed[a]["reviewed_class"] is None, "two people, two opinions"
    by_line = {row["record"]: row for row in rejected}
    assert list(by_line) == [3, 4, 6, 7, 8, 9, 10, 11, 12, 14]
    assert (by_line[3]["problem"], by_line[4]["reason"]) == ("repeated", "said featured, and smooth later")
    assert "spreadsheets" in by_line[7]["reason"]
    assert by_line[7]["object_id"] == "1.23765E+18"
    assert json.loads(by_line[9]["content"])["verdict"] == "smoooth"
    assert by_line[14]["content"] is None, "anybody may be named in a line whose fields are not known"
    for text in ("page.csv record 6, object", "the answer 'smoooth' is not a verdict", "another, and this catalog has"):
        assert text in caplog.text


def test_names_cannot_be_found_in_what_is_published(catalog: Path, ids: list[int], tmp_path: Path) -> None:
    rows = [page_row(one, "smooth", f"Person {n % 3}") for n, one in enumerate(ids[:6])]
    file = write_csv(tmp_path / "page.csv", [*rows, page_row(ids[7], "round", "Person 9")])
    folder = Path(import_verdicts(import_config(catalog, file))["verdicts_uri"])
    first = pq.read_table(folder / "verdicts.parquet")
    published = b"".join(path.read_bytes() for path in folder.iterdir())
    texts = json.dumps([pq.read_table(path).to_pylist() for path in folder.glob("*.parquet")], default=str)
    assert b"Person" not in published
    assert "Person" not in texts
    assert {path.name for path in folder.iterdir()} == {
        "verdicts.parquet", "reviewed.parquet", "rejected.parquet", "import.json",
    }  # fmt: skip
    write_csv(file, rows[::-1])
    again = pq.read_table(Path(import_verdicts(import_config(catalog, file))["verdicts_uri"]) / "verdicts.parquet")
    assert again == first, "the same person has the same pseudonym"
    other = import_verdicts(import_config(catalog, file, name="named", names=True))
    assert set(pq.read_table(f"{other['verdicts_uri']}/verdicts.parquet")["reviewer"].to_pylist()) == {
        "Person 0", "Person 1", "Person 2",
    }  # fmt: skip


def test_people_without_a_name_are_told_apart_by_file(catalog: Path, ids: list[int], tmp_path: Path) -> None:
    first = [page_row(one, "smooth", "", n) for n, one in enumerate(ids[:3])]
    later = [*first, page_row(ids[3], "featured", "", 50), page_row(ids[0], "featured", "", 55)]
    another = [page_row(ids[0], "smooth", "", 20)]
    files = [write_csv(tmp_path / f"{n}.csv", rows) for n, rows in enumerate((first, later, another))]
    verdicts, reviewed, _ = tables(summary := import_verdicts(import_config(catalog, *files)))
    assert summary["reviewers"] == 2
    assert summary["problems"] == {"repeated": 2, "contradicted": 2}
    assert all(row["reviewer"].startswith("anonymous-") for row in verdicts)
    assert (reviewed[ids[0]]["verdicts"], reviewed[ids[0]]["reviewed_class"]) == (2, None)
    turned = import_verdicts(import_config(catalog, *files[::-1], name="turned"))
    assert tables(turned)[0] == verdicts


def test_inclusion_probabilities_of_queues(
    catalog: Path, ids: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_queue(catalog, ids[:4], "first")
    make_queue(catalog, ids[4:6], "second")
    make_queue(catalog, ids[6:7], "foreign", model_id="feed")
    rows = [page_row(one, "smooth", queue=q) for one, q in zip(ids, ["", "first", "", "first", "second"], strict=False)]
    rows += [page_row(ids[6], "smooth", queue="foreign"), page_row(ids[7], "smooth", queue="../first"),
             page_row(ids[8], "smooth", queue="first")]  # fmt: skip
    file = write_csv(tmp_path / "page.csv", rows)
    summary = import_verdicts(import_config(catalog, file, queue="first"))
    verdicts, reviewed, _ = tables(summary)
    probabilities = [reviewed[one]["inclusion_probability"] for one in (*ids[:5], *ids[6:9])]
    assert probabilities == [1, 1 / 2, 1 / 3, 1 / 4, 1, None, None, None]
    assert [row["queue"] for row in verdicts][:5] == ["first"] * 4 + ["second"]
    assert reviewed[ids[3]]["reason"] == "reason 4"
    assert summary["with_inclusion_probability"] == 5
    assert "was drawn from another catalog" in caplog.text
    assert "1 verdicts are on objects that are not in queue first" in caplog.text
    without = import_verdicts(import_config(catalog, file, name="without"))
    assert tables(without)[1][ids[0]]["inclusion_probability"] is None
    for name, message in (("nowhere", "there is no such queue"), ("foreign", "was drawn from another catalog")):
        with pytest.raises(InputError, match=message):
            import_verdicts(import_config(catalog, file, name="x", queue=name))


def test_text_ids_and_schemas(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(30, seed=1, text_ids=True))
    one, other = read_catalog(catalog)["object_id"].to_pylist()[:2]
    rows = [page_row(one, "smooth"), page_row(other, "unsure"), page_row("1.2E+18", "smooth"), page_row("J0", "smooth")]
    summary = import_verdicts(import_config(catalog, write_csv(tmp_path / "page.csv", rows)))
    _, reviewed, _ = tables(summary)
    assert (reviewed[one]["reviewed_class"], reviewed[other]["reviewed_class"]) == ("smooth", None)
    assert summary["problems"] == {"damaged_id": 1, "unknown_object": 1}
    folder = Path(summary["verdicts_uri"])
    schemas = {"verdicts": verdicts_schema(pa.string()), "reviewed": reviewed_schema(pa.string())}
    for name, schema in (*schemas.items(), ("rejected", rejected_schema())):
        assert pq.read_schema(folder / f"{name}.parquet").equals(schema)
    assert read_reviewed(str(folder)).rows.schema.equals(schemas["reviewed"])


def test_the_log_says_what_comes_next(
    catalog: Path, ids: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = write_csv(tmp_path / "page.csv", [page_row(ids[0], "smooth")])
    uri = import_verdicts(import_config(catalog, file))["verdicts_uri"]
    assert f"python -m jobs.audit_catalog {catalog} --verdicts {uri}" in caplog.text
    assert f"--set 'verdicts.uris=[\"{uri}\"]'" in caplog.text


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_endings_of_lines(catalog: Path, ids: list[int], tmp_path: Path, ending: str) -> None:
    file = tmp_path / "verdicts.csv"
    file.write_bytes(ending.join(["object_id,verdict", f"{ids[0]},smooth", f"{ids[1]},featured"]).encode())
    assert import_verdicts(import_config(catalog, file))["accepted"] == 2


def test_tables_are_replaced_by_newer_files_of_the_same_names(catalog: Path, ids: list[int], tmp_path: Path) -> None:
    first = write_csv(tmp_path / "a.csv", [page_row(ids[0], "smooth")])
    second = write_csv(tmp_path / "b.csv", [page_row(ids[1], "smooth", "Ben")])
    import_verdicts(import_config(catalog, first))
    with pytest.raises(InputError, match=r"has the verdicts of .*a\.csv: import all files at once"):
        import_verdicts(import_config(catalog, second))
    write_csv(first, [page_row(ids[0], "smooth"), page_row(ids[2], "smooth")])
    assert import_verdicts(import_config(catalog, first, second))["objects"] == 3
    assert import_verdicts(import_config(catalog, second, overwrite=True))["objects"] == 1


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("object_id,label\n1,smooth\n", {}, r"is neither a CSV of the review page \(columns object_id, verdict\)"),
        ("object_id,label\n1,smooth\n", {"format": "page"}, "has no column verdict"),
        ("", {}, "is empty"),
        ("\ufeffobject_id,verdict\n1,smooth\n".encode("utf-16-le"), {}, "is UTF-16, .* save it as CSV in UTF-8"),
        ("[" * 100_000, {}, "is damaged or not complete"),
        ("object_id,verdict,queue\n{id},smooth,first\n", {"queue": "typo"}, "queue = 'typo': there is no such queue"),
        ("object_id,verdict\n", {}, "there is no record"),
        ("object_id,verdict\n{id},round\n{id},round\n", {}, r"none of 2 records .* 'round' is not a verdict; say in"),
        ('object_id,verdict\n{id},"smooth\n', {}, "the file is not complete"),
        ("[{{", {}, "is damaged or not complete"),
        ("object_id,verdict\n{id},smooth\n", {"answers": {"x": "y"}}, "answers.x = 'y': is not a verdict"),
        ("object_id,verdict\n{id},smooth\n", {"name": "../x"}, "use letters"),
        ("object_id,verdict\n{id},smooth\n", {"queue": "../x"}, "is not the name of a queue"),
    ],
)
def test_what_cannot_be_imported(
    catalog: Path, ids: list[int], tmp_path: Path, content: str | bytes, settings: dict[str, Any], message: str
) -> None:
    file = tmp_path / "verdicts.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.format(id=ids[0]).encode())
    with pytest.raises(InputError, match=message):
        import_verdicts(import_config(catalog, file, **settings))
    assert not (catalog.parent / "review" / "verdicts" / "verdicts").exists()


def test_files_that_are_not_there_or_named_twice(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        import_verdicts(import_config(catalog, tmp_path / "nowhere.csv"))
    with pytest.raises(InputError, match="is a folder: name the files in it"):
        import_verdicts(import_config(catalog, tmp_path))
    with pytest.raises(InputError, match="is named twice"):
        import_config(catalog, tmp_path, tmp_path)
    with pytest.raises(InputError, match="name at least one file"):
        import_config(catalog)
