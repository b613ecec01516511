from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.release_page.counts import BINS, SHOWN_FLAGS, SKY_ORDER, ReleaseCounts, count_release, mapped_class
from galaxy_batch.release_page.examples import Example, read_examples
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.sky.healpix import coarser, pixels_at
from tests.support.skies import publish_rows, read_catalog, sky_rows

ON_CUTOUT = ReviewFlag.BLANK | ReviewFlag.REPEATED_IMAGE | ReviewFlag.UNFAMILIAR | ReviewFlag.UNSTABLE


def with_flags(rows: pa.Table, where: slice, flag: ReviewFlag) -> pa.Table:
    flags = rows["review_flags"].to_numpy().copy()
    flags[where] |= int(flag)
    for name, values in (("review_flags", flags), ("needs_review", flags != 0)):
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values))
    return rows


class Counted:
    """A catalog of 4,000 rows, its counts, and the same rows as a data frame."""

    def __init__(self, folder: Path) -> None:
        rows = with_flags(sky_rows(4000, seed=3, without_position=0.05), slice(0, 40), ReviewFlag.BLANK)
        self.uri = str(publish_rows(folder, rows))
        self.manifest = require_manifest(self.uri)
        self.counts = count_release(self.uri, self.manifest, sample_rows=6, seed=1)
        self.frame = read_catalog(self.uri).to_pandas()
        self.known = self.frame[self.frame["predicted_class"].notna()]

    def examples(self, locations: list[Any]) -> list[Example]:
        examples = read_examples(self.uri, self.manifest, locations)
        return [examples[location] for location in locations]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    return Counted(tmp_path_factory.mktemp("counts"))


def test_every_row_is_counted_once(counted: Counted) -> None:
    counts, frame = counted.counts, counted.frame
    assert counts.rows == len(frame) == 4000
    assert len(counted.manifest.files) > 4
    assert counts.statuses == frame["status"].value_counts().to_dict()
    assert counts.failed == frame["predicted_class"].isna().sum() > 0
    assert counts.flagged() == frame["needs_review"].sum()
    for flag in ReviewFlag:
        has = (frame["review_flags"] & int(flag)) != 0
        assert counts.flagged(flag) == has.sum() == counted.manifest.flag_counts[flag.name]
        assert counts.flagged(flag, alone=True) == (frame["review_flags"] == int(flag)).sum()


def test_confidence_is_counted_by_class(counted: Counted) -> None:
    counts, known = counted.counts, counted.known
    for label, name in enumerate(counts.classes):
        of_class = known[known["predicted_class"] == name]
        edges = np.linspace(0, 1, BINS + 1)
        assert (counts.classified[label] == np.histogram(of_class["confidence"].astype(float), edges)[0]).all()
        assert counts.confidence_sum[label].sum() == pytest.approx(of_class["confidence"].astype(float).sum())
        unflagged = of_class[~of_class["needs_review"]]
        assert counts.unflagged[label].sum() == len(unflagged)
        assert counts.unflagged_sum[label].sum() == pytest.approx(unflagged["confidence"].astype(float).sum())
        assert counts.clean[label].sum() == ((of_class["review_flags"] & int(ON_CUTOUT)) == 0).sum()


def test_the_sky_is_counted_by_cell(counted: Counted) -> None:
    counts = counted.counts
    placed = counted.frame[counted.frame["ra"].notna()]
    no_galaxy = (placed["review_flags"] & int(ReviewFlag.BLANK | ReviewFlag.REPEATED_IMAGE)) != 0
    classified = placed[placed["predicted_class"].notna() & ~no_galaxy]
    for cells, rows in (
        (counts.sky, placed),
        (counts.sky_classified, classified),
        (counts.sky_of_class, classified[classified["predicted_class"] == "featured"]),
    ):
        pixels = pixels_at(rows["ra"].to_numpy(), rows["dec"].to_numpy(), 2)
        assert (coarser(cells, SKY_ORDER - 2) == np.bincount(pixels, minlength=192)).all()


def test_samples_come_from_their_class_and_confidence(counted: Counted) -> None:
    counts, known = counted.counts, counted.known
    for label, name in enumerate(counts.classes):
        of_class = known[known["predicted_class"] == name]
        clean = of_class[(of_class["review_flags"] & int(ON_CUTOUT)) == 0]
        low, high = clean["confidence"].quantile([0.1, 0.9])
        confident = counted.examples(counts.confident_of(label))
        uncertain = counted.examples(counts.uncertain_of(label))
        flagged = counted.examples(counts.flagged_of(label))
        assert len(confident) == len(uncertain) == len(flagged) == 6
        assert all(e.confidence is not None and e.confidence >= high - 1 / BINS for e in confident)
        assert all(e.confidence is not None and e.confidence <= low + 1 / BINS for e in uncertain)
        assert {e.predicted_class for e in [*confident, *uncertain, *flagged]} == {name}
        assert not any(e.review_flags & ON_CUTOUT for e in [*confident, *uncertain])
        first_flags = [next(flag for flag in SHOWN_FLAGS if e.review_flags & flag) for e in flagged]
        present = [flag for flag in SHOWN_FLAGS if (of_class["review_flags"] & int(flag)).any()]
        assert {ReviewFlag.BLANK, ReviewFlag.REPEATED_IMAGE} <= set(present)
        assert first_flags == (present * 6)[:6]  # in turn
        assert all(str(flag.name) in e.flags for flag, e in zip(first_flags, flagged, strict=True))
    failed = counted.examples(counts.failed_of("missing"))
    assert [(e.status, e.error, e.confidence) for e in failed] == [("missing", "no such file", None)] * 6
    assert counts.failed_of("unreachable") == []


def test_sampled_rows_are_read_from_the_catalog(counted: Counted) -> None:
    rows = counted.frame.set_index("object_id")
    for example in counted.examples(counted.counts.confident_of(0)):
        row = rows.loc[example.object_id]
        assert (example.confidence, example.image_hash) == (row["confidence"], row["image_hash"])


def test_the_seed_fixes_the_sample(counted: Counted) -> None:
    again = count_release(counted.uri, counted.manifest, sample_rows=6, seed=1)
    other = count_release(counted.uri, counted.manifest, sample_rows=6, seed=2)
    assert again.confident_of(0) == counted.counts.confident_of(0)
    assert other.confident_of(0) != counted.counts.confident_of(0)


def test_the_only_row_of_a_class_is_not_shown_twice() -> None:
    counts = ReleaseCounts(("a", "b", "c"), seed=0, sample_rows=3)
    rows = {"predicted_class": ["b"], "confidence": [1.0], "review_flags": [0], "status": ["ok"], "_healpix_29": [None]}
    table = pa.table(rows, schema=pa.schema(
        {"predicted_class": pa.string(), "confidence": pa.float32(), "review_flags": pa.int32(), "status": pa.string(),
         "_healpix_29": pa.int64()}
    ))  # fmt: skip
    counts.add(table, 0, 0)
    counts.add(table.slice(1), 0, 1)
    assert len(counts.confident_of(1)) == 1
    assert counts.uncertain_of(1) == counts.confident_of(0) == counts.flagged_of(2) == []
    assert counts.classified[1, BINS - 1] == 1


def test_the_mapped_class_is_featured_or_the_last() -> None:
    assert mapped_class(("smooth", "featured", "artifact")) == "featured"
    assert mapped_class(("early", "late")) == "late"
