import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.config import ReviewConfig
from galaxy_batch.review.flags import audit_sample, flag_for_review, flag_repeated_images, repeated_hashes
from galaxy_batch.rows import ReviewFlag

NO_AUDIT = ReviewConfig(audit_fraction=0.0)


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


def flags(table: pa.Table, config: ReviewConfig = NO_AUDIT) -> list[int]:
    flagged = flag_for_review(table, config, min_confidence=0.7, max_unfamiliarity=1.5, max_instability=0.1)
    assert "_blank_fraction" not in flagged.column_names
    assert flagged["needs_review"].to_pylist() == [f != 0 for f in flagged["review_flags"].to_pylist()]
    assert flagged["review_flags"].type == pa.int32()
    found: list[int] = flagged["review_flags"].to_pylist()
    return found


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


def test_without_a_limit_nothing_is_unfamiliar_or_unstable() -> None:
    table = rows(unfamiliarity=pa.array([1e9] * 3, pa.float32()), instability=pa.array([0.5] * 3, pa.float32()))
    assert flag_for_review(table, NO_AUDIT, min_confidence=0.7)["review_flags"].to_pylist() == [0, 0, 0]


def test_flags_add_up() -> None:
    table = rows(ra=[None] * 3, confidence=pa.array([0.1] * 3, pa.float32()), _blank_fraction=pa.array([1.0] * 3))
    assert flags(table) == [ReviewFlag.LOW_CONFIDENCE | ReviewFlag.BLANK | ReviewFlag.NO_POSITION] * 3


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
    assert not audit_sample(ids, NO_AUDIT).any()


def test_text_ids_are_drawn_too() -> None:
    ids = pa.chunked_array([[f"J{i}" for i in range(10_000)]])
    assert 0.04 < audit_sample(ids, ReviewConfig(audit_fraction=0.05)).mean() < 0.06


def test_repeated_images() -> None:
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
