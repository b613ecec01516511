"""The flags of rows agree with an independent statement of the rules, and with the table in the documentation."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from galaxy_batch.config import ReviewConfig
from galaxy_batch.review.flags import (
    ReviewFlag,
    ReviewLimits,
    audit_sample,
    flag_for_review,
    flag_repeated_images,
    pixel_flags,
    repeated_hashes,
)
from tests.support.new_flag import ROW, SETTING
from tests.support.repository import REPOSITORY

LIMITS = ReviewLimits(
    min_confidence=0.7, max_blank_fraction=0.9, max_unfamiliarity=1.5, max_instability=0.1, min_repeats=3,
    audit_fraction=0.0,
)  # fmt: skip


def rows(**changes: object) -> pa.Table:
    columns = {
        "object_id": [1, 2, 3],
        "ra": [10.0, 20.0, 30.0],
        "confidence": pa.array([0.9, 0.9, 0.9], pa.float32()),
        "status": ["ok"] * 3,
        "image_hash": [7, 8, 9],
        "unfamiliarity": pa.array([1.0, 1.1, None], pa.float32()),
        "instability": pa.array([0.0, 0.01, None], pa.float32()),
        "_blank_fraction": pa.array([0.2, 0.2, 0.2], pa.float32()),
    }
    return pa.table({**columns, **changes})


def flags(table: pa.Table, limits: ReviewLimits = LIMITS) -> list[int]:
    flagged = flag_for_review(table, limits)
    assert not {"_blank_fraction", "_pixel_flags"} & set(flagged.column_names)
    assert flagged["needs_review"].to_pylist() == [f != 0 for f in flagged["review_flags"].to_pylist()]
    assert flagged["review_flags"].type == pa.int32()
    values: list[int] = flagged["review_flags"].to_pylist()
    return values


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [0, 0, 0]),
        ({"confidence": pa.array([0.69, 0.7001, 0.71], pa.float32())}, [ReviewFlag.LOW_CONFIDENCE, 0, 0]),
        ({"_blank_fraction": pa.array([0.95, 0.9, 0.5])}, [ReviewFlag.BLANK, 0, 0]),
        ({"ra": [None, 0.0, 1.0]}, [ReviewFlag.NO_POSITION, 0, 0]),
        ({"unfamiliarity": pa.array([1.51, 1.5, None], pa.float32())}, [ReviewFlag.UNFAMILIAR, 0, 0]),
        ({"instability": pa.array([0.11, 0.09, None], pa.float32())}, [ReviewFlag.UNSTABLE, 0, 0]),
        (
            {"status": ["ok", "missing", "too_large"], "confidence": pa.array([0.9, None, None], pa.float32())},
            [0, ReviewFlag.UNREADABLE, ReviewFlag.UNREADABLE],
        ),
    ],
)
def test_each_flag(changes: dict[str, object], expected: list[int]) -> None:
    assert flags(rows(**changes)) == expected


def test_no_row_is_unfamiliar_or_unstable_without_a_limit() -> None:
    table = rows(unfamiliarity=pa.array([1e9] * 3, pa.float32()), instability=pa.array([0.5] * 3, pa.float32()))
    assert flags(table, ReviewLimits(min_confidence=0.7, audit_fraction=0.0)) == [0, 0, 0]


def test_a_survey_without_positions_sends_no_row_to_review_for_that() -> None:
    table = rows(ra=pa.nulls(3, pa.float64()))
    assert flags(table) == [ReviewFlag.NO_POSITION] * 3
    assert flags(table, ReviewLimits(min_confidence=0.7, audit_fraction=0.0, has_positions=False)) == [0, 0, 0]


def test_flags_add_up() -> None:
    table = rows(ra=[None] * 3, confidence=pa.array([0.1] * 3, pa.float32()), _blank_fraction=pa.array([1.0] * 3))
    assert flags(table) == [ReviewFlag.LOW_CONFIDENCE | ReviewFlag.BLANK | ReviewFlag.NO_POSITION] * 3


def test_a_reused_row_keeps_the_flags_measured_on_its_pixels() -> None:
    blank = pa.array([0.95, None, None], pa.float32())
    table = rows(_blank_fraction=blank, _pixel_flags=pa.array([None, 4, 0], pa.int32()))
    assert flags(table) == [ReviewFlag.BLANK, ReviewFlag.BLANK, 0]


def test_cutouts_from_tiles_are_incomplete_above_a_limit() -> None:
    table = rows(empty_fraction=pa.array([0.126, 0.125, None], pa.float32()))
    limits = dataclasses.replace(LIMITS, max_empty_fraction=0.125)
    assert flags(table, limits) == [ReviewFlag.INCOMPLETE, 0, 0]
    assert flags(table) == [0, 0, 0]
    assert flags(rows(), limits) == [0, 0, 0]
    assert "empty_fraction" in flag_for_review(table, limits).column_names


def expected_flags(row: dict[str, object], limits: ReviewLimits, repeats: Counter[object]) -> int:
    """The rules, written without the table of flags; 128 is left out."""
    bits = 0
    if row["confidence"] is not None and row["confidence"] < limits.min_confidence:
        bits |= 1
    if row["status"] != "ok":
        bits |= 2
    if row["_blank_fraction"] is not None and row["_blank_fraction"] > limits.max_blank_fraction:
        bits |= 4
    for bit, name, limit in (
        (8, "unfamiliarity", limits.max_unfamiliarity),
        (16, "instability", limits.max_instability),
    ):
        if limit is not None and row[name] is not None and row[name] > limit:
            bits |= bit
    if row["image_hash"] is not None and repeats[row["image_hash"]] >= limits.min_repeats:
        bits |= 32
    if row["ra"] is None and limits.has_positions:
        bits |= 64
    return bits


@pytest.mark.parametrize("has_positions", [True, False])
@pytest.mark.parametrize("max_unfamiliarity", [1.5, None])
def test_flags_agree_with_the_rules_written_apart(has_positions: bool, max_unfamiliarity: float | None) -> None:
    rng, count = np.random.default_rng(3), 2000
    failed = rng.random(count) < 0.1
    table = rows(
        object_id=np.arange(count),
        ra=pa.array(rng.uniform(0, 360, count), mask=rng.random(count) < 0.2),
        confidence=pa.array(rng.uniform(0.3, 1, count).astype(np.float32), mask=failed),
        status=np.where(failed, rng.choice(["missing", "unreadable", "crashed"], count), "ok"),
        image_hash=pa.array(rng.integers(0, count // 2, count), mask=failed),
        unfamiliarity=pa.array(rng.uniform(0.5, 2.5, count).astype(np.float32), mask=failed),
        instability=pa.array(rng.uniform(0, 0.3, count).astype(np.float32), mask=rng.random(count) < 0.3),
        _blank_fraction=pa.array(rng.uniform(0.5, 1, count).astype(np.float32), mask=failed),
    )
    limits = ReviewLimits(
        min_confidence=0.7, max_unfamiliarity=max_unfamiliarity, max_instability=0.1, audit_fraction=0.05, audit_seed=7,
        has_positions=has_positions,
    )  # fmt: skip
    repeats = Counter(value for value in table["image_hash"].to_pylist() if value is not None)
    hashes = table["image_hash"].drop_null().to_numpy()
    repeated = repeated_hashes(hashes, np.ones(len(hashes), np.int64), limits)
    flagged = flag_repeated_images(flag_for_review(table, limits), repeated)["review_flags"].to_numpy()
    expected = np.array([expected_flags(row, limits, repeats) for row in table.to_pylist()])
    assert np.array_equal(flagged & ~128, expected)
    assert (np.bitwise_or.reduce(expected) | 8 | 64) == 127
    text = pd.Series(np.arange(count)).astype(str).to_numpy().astype(object)
    drawn = pd.util.hash_array(text, hash_key="audit 0000000007").astype(np.float64) < 0.05 * 2.0**64
    assert np.array_equal((flagged & 128) != 0, drawn)


def test_every_flag_has_a_bit_a_meaning_and_settings_that_exist() -> None:
    known = {field.name for field in fields(ReviewLimits)}
    for flag in ReviewFlag:
        assert int(flag).bit_count() == 1
        assert flag.meaning[0].islower()
        assert not flag.meaning.endswith(".")
        assert set(flag.condition.settings) <= known
    assert [flag.name for flag in pixel_flags()] == ["BLANK"]


def test_a_new_flag_is_one_row_of_the_table(tmp_path: Path) -> None:
    """Here one measured on pixels, in a copy of the package: it is set, published, verified, shown and reused."""
    package = tmp_path / "galaxy_batch"
    shutil.copytree(REPOSITORY / "galaxy_batch", package, ignore=shutil.ignore_patterns("__pycache__"))
    for module, before, added in (
        ("review/flags.py", "    def holds(", ROW),
        ("config.py", "    min_repeats: ", SETTING),
    ):
        source = (package / module).read_text()
        assert source.count(before) == 1
        (package / module).write_text(source.replace(before, added + before))
    command = [sys.executable, "-m", "tests.support.new_flag", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True, timeout=300)


def test_the_documentation_has_the_table_of_flags() -> None:
    text = (REPOSITORY / "galaxy_batch" / "README.md").read_text()
    table = re.findall(r"^\| (\d+) \| `?([A-Z_]+)`? \| (.*?) \|$", text, re.MULTILINE)
    assert [(int(bit), name, meaning.replace("`", "")) for bit, name, meaning in table] == [
        (flag.value, flag.name, flag.meaning) for flag in ReviewFlag
    ]
    recipe = re.findall(r"\((\d+), '([A-Z_]+)'\)", text)
    assert recipe == [(str(flag.value), flag.name) for flag in ReviewFlag]


def test_the_audit_draws_its_share_by_id_alone() -> None:
    ids = pa.chunked_array([np.arange(200_000) + 1237648720693755918])
    config = ReviewConfig(audit_fraction=0.01)
    drawn = audit_sample(ids, config)
    assert 0.009 < drawn.mean() < 0.011
    order = np.random.default_rng(1).permutation(len(ids))
    assert np.array_equal(audit_sample(ids.take(pa.array(order)), config), drawn[order])
    other = audit_sample(ids, ReviewConfig(audit_fraction=0.01, audit_seed=1))
    assert (drawn & other).mean() < 0.001
    assert audit_sample(ids, ReviewConfig(audit_fraction=1.0)).all()
    assert not audit_sample(ids, ReviewConfig(audit_fraction=0.0)).any()


def test_text_ids_can_be_drawn() -> None:
    ids = pa.chunked_array([[f"J{i}" for i in range(10_000)]])
    assert 0.04 < audit_sample(ids, ReviewConfig(audit_fraction=0.05)).mean() < 0.06


def test_repeated_images_are_those_of_many_rows() -> None:
    hashes = np.array([5, 5, 5, -1, -1, 2**62, 2**62, 2**62, 2**62])
    repeated = repeated_hashes(hashes, np.ones(len(hashes), np.int64), ReviewConfig(min_repeats=3))
    assert repeated.tolist() == [5, 2**62]
    counted = np.array([5, -1, 5, 2**62]), np.array([2, 2, 1, 4])
    assert repeated_hashes(*counted, ReviewConfig(min_repeats=3)).tolist() == [5, 2**62]
    table = pa.table(
        {
            "image_hash": [5, -1, None, 2**62],
            "review_flags": pa.array([1, 0, 2, 0], pa.int32()),
            "needs_review": [True, False, True, False],
        }
    )
    flagged = flag_repeated_images(table, repeated)
    assert flagged["review_flags"].to_pylist() == [33, 0, 2, 32]
    assert flagged["needs_review"].to_pylist() == [True, False, True, True]
    assert flagged.column_names == table.column_names
    assert flag_repeated_images(table, np.empty(0, np.int64)).equals(table)
