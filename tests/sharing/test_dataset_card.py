"""The dataset card: what the hub reads, and what astronomers read."""

import dataclasses
import glob
import itertools
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from galaxy_batch.report.page import interval
from galaxy_batch.sharing.config import ShareMetadata
from galaxy_batch.sharing.dataset_card import dataset_card
from galaxy_batch.sharing.files import collection_files
from galaxy_batch.stats import wilson_interval
from tests.support.shared_catalogs import ABOUT, copied, described, write_audit
from tests.support.skies import read_catalog


def card_of(catalog: Path, *arguments: Any, **changes: Any) -> tuple[dict[str, Any], str]:
    """Front matter and text."""
    _, entries, text = dataset_card(described(catalog, *arguments, **changes)).decode().split("---\n", 2)
    return yaml.safe_load(entries), text


def test_the_hub_shows_every_row_once(sky_catalog: Path) -> None:
    entries, _ = card_of(sky_catalog)
    assert entries["license"] == "cc-by-4.0"
    assert entries["pretty_name"] == ABOUT.title
    assert entries["size_categories"] == ["n<1K"]
    (config,) = entries["configs"]
    (part,) = config["data_files"]
    there = [
        path for pattern in part["path"] for path in glob.glob(pattern, root_dir=sky_catalog.parent, recursive=True)
    ]
    assert sorted(there) == sorted(str(path.relative_to(sky_catalog.parent)) for path in sky_catalog.rglob("*.parquet"))
    assert len(set(there)) == len(there)


@pytest.mark.parametrize(
    ("rows", "size"), [(999, "n<1K"), (1000, "1K<n<10K"), (10**6, "1M<n<10M"), (5 * 10**9, "1B<n<10B")]
)
def test_categories_of_size(sky_catalog: Path, rows: int, size: str) -> None:
    catalog = described(sky_catalog)
    manifest = dataclasses.replace(catalog.manifest, rows=rows)
    assert f"\n- {size}\n" in dataset_card(dataclasses.replace(catalog, manifest=manifest)).decode()


def test_every_column_is_described(sky_catalog: Path) -> None:
    _, text = card_of(sky_catalog)
    manifest = described(sky_catalog).manifest
    table = text.partition("## Columns\n")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    assert [re.findall("`(.*?)`", line)[0] for line in lines] == list(manifest.schema)
    assert "| `ra` | float64 | deg | pos.eq.ra;meta.main | Right ascension, ICRS |" in lines


def test_counts_and_conditions_of_the_accuracy(sky_catalog: Path) -> None:
    _, text = card_of(sky_catalog)
    manifest = described(sky_catalog).manifest
    for name, rows in manifest.class_counts.items():
        assert re.search(rf"\| {name} \| {rows} \|", text)
    for name, rows in manifest.flag_counts.items():
        assert f"| {name} | {rows} |" in text
    assert "Of 144 galaxies" in text
    assert "90.0%" in text
    assert f"95% interval\n{interval(wilson_interval(130, 144), as_percent=True)}" in text
    assert "calibration error of its\nconfidence was 0.031" in text
    assert "at least 60% of the volunteers' votes" in text
    assert "**On this release** the accuracy has not been measured" in text
    assert f"{manifest.flag_counts['AUDIT']} rows with the flag AUDIT" in text
    assert "## What not to use it for" in text


def test_an_audit_beside_the_catalog_is_in_the_card(sky_catalog: Path, tmp_path: Path) -> None:
    catalog = copied(sky_catalog, tmp_path)
    write_audit(catalog)
    _, text = card_of(catalog)
    assert "**Measured on this release** (200 galaxies with a class from people; `verdicts`)." in text
    assert "The stated confidence holds." in text
    assert "| smooth | 100 | 91.0% (87.4–93.7%) | not known |" in text
    assert "has not been measured" not in text
    assert "are probabilities of such labels" in text
    share = {"value": 0.027, "low": 0.01, "high": 0.05}
    write_audit(catalog, holds=False, artifact_share=share)
    _, text = card_of(catalog)
    assert "are not probabilities on this release" in text
    assert "Artifacts, which are no galaxies, are 2.7% (1.0–5.0%) of the rows with a class." in text
    write_audit(catalog, not_covered="the verdicts are only on doubtful galaxies", statement="It cannot be estimated.")
    assert "| class | rows | purity" not in card_of(catalog)[1]


@pytest.mark.parametrize("share", [0.5, 0.01])
def test_a_release_that_is_unlike_the_training_is_warned_of(sky_catalog: Path, share: float) -> None:
    catalog = described(sky_catalog)
    counts = {**catalog.manifest.flag_counts, "UNFAMILIAR": round(share * catalog.classified)}
    manifest = dataclasses.replace(catalog.manifest, flag_counts=counts)
    text = dataset_card(dataclasses.replace(catalog, manifest=manifest)).decode()
    assert ("do not take its confidence as a probability" in text) == (share > 0.05)


def test_licence_and_citation(sky_catalog: Path) -> None:
    _, text = card_of(sky_catalog)
    assert "https://spdx.org/licenses/CC-BY-4.0.html" in text
    assert "> Carberry, Josiah; The Made-up Collaboration" in text
    assert "- Lintott et al. 2011, MNRAS 410, 166" in text
    assert "We thank nobody." in text


def test_what_is_not_known_is_not_written(sky_catalog: Path) -> None:
    entries, text = card_of(sky_catalog, ShareMetadata(), checkpoint={})
    assert "license" not in entries
    assert "No licence is stated" in text
    assert "bibtex" not in text
    assert "test galaxies" not in text
    assert "None" not in text
    assert "nan" not in re.findall(r"\w+", text)


def test_texts_do_not_break_tables_and_blocks_are_apart(sky_catalog: Path) -> None:
    _, text = card_of(sky_catalog, title_with_bars := ShareMetadata(version="a|b", title="T"))
    assert title_with_bars.version.replace("|", "\\|") in text
    lines = text.splitlines()
    for above, line in itertools.pairwise(lines):
        if line.startswith(("#", "**", "- **G", "```b")) or (line.startswith("| ") and not above.startswith("|")):
            assert above == "", (above, line)
    assert "\n\n\n" not in text
    columns = [line.replace("\\|", "").count("|") for line in lines if line.startswith("| `")]
    assert set(columns) == {3, 6}  # files, columns


def test_the_query_of_the_card_works(sky_catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")
    _, text = card_of(sky_catalog)
    shutil.copytree(sky_catalog, tmp_path / "catalog")
    monkeypatch.chdir(tmp_path)
    (query,) = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    counted = dict(duckdb.sql(query).fetchall())
    flags = read_catalog(sky_catalog)["review_flags"].to_pylist()
    assert sum(counted.values()) == sum(not flag & ~(64 | 128) for flag in flags)
    assert 0 < sum(counted.values()) < len(flags)
    assert os.path.isdir(re.findall(r'open_catalog\("(.*?)"\)', text)[0])


def test_addresses_of_the_hub(sky_catalog: Path) -> None:
    _, text = card_of(sky_catalog, to="hf://datasets/me/galaxies")
    assert 'lsdb.open_catalog("hf://datasets/me/galaxies/catalog")' in text
    assert "'hf://datasets/me/galaxies/catalog/**/*.parquet'" in text


def test_a_collection_is_opened_as_one(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [file.path for file in collection_files(str(collection), described(collection).manifest)]
    _, text = card_of(collection, files=(*described(collection).files, *files))
    assert 'lsdb.open_catalog(".")' in text
    assert "| `margin_10arcs/` | copies of the rows near the borders of the pixels" in text
    assert "| `index_object_id/` | where each `object_id` is" in text
    pytest.importorskip("lsdb")
    monkeypatch.chdir(collection.parent)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(names["nearby"]) >= 1
    assert names["catalog"].margin is not None
