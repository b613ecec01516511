"""Counts of the answers, compared with a data frame of all rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.release_page.answers import BINS, AnswerCounts
from galaxy_batch.release_page.counts import ReleaseCounts, count_release
from galaxy_batch.release_page.examples import read_examples
from galaxy_batch.rows import ReviewFlag
from tests.support.skies import publish_rows, read_catalog, sky_rows
from tests.support.votes import FEW_QUESTIONS, with_votes

SAMPLE = 7


class Counted:
    """A catalog with votes, its counts, and the same rows as a data frame."""

    def __init__(self, folder: Path) -> None:
        self.uri = str(publish_rows(folder, with_votes(sky_rows(3000, seed=3)), max_rows=400))
        self.manifest = require_manifest(self.uri)
        self.counts: ReleaseCounts = count_release(self.uri, self.manifest, SAMPLE, seed=1)
        self.frame: pd.DataFrame = read_catalog(self.uri).to_pandas().set_index("object_id")


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    return Counted(tmp_path_factory.mktemp("answers"))


def test_galaxies_count_where_half_of_the_volunteers_are_asked(counted: Counted) -> None:
    answers, frame = counted.counts.answers, counted.frame
    assert [question.name for question in answers.questions] == [question.name for question in FEW_QUESTIONS]
    for question in answers.questions:
        asked = frame[frame[question.asked_column] >= 0.5]
        assert answers.galaxies(question) == len(asked) > 0
        assert len(asked) < len(frame)
        for place, name in enumerate(question.fraction_columns):
            fractions = asked[name].astype(float)
            expected, _ = np.histogram(fractions, np.linspace(0, 1, BINS + 1))
            assert answers.histograms[question.name][place].tolist() == expected.tolist()
            assert answers.mean(question)[place] == pytest.approx(fractions.mean())


def test_the_examples_have_the_largest_fractions_and_no_flag_on_the_cutout(counted: Counted) -> None:
    answers, frame = counted.counts.answers, counted.frame
    on_cutout = ReviewFlag.BLANK | ReviewFlag.REPEATED_IMAGE | ReviewFlag.UNFAMILIAR | ReviewFlag.UNSTABLE
    clean = frame[frame["predicted_class"].notna() & ((frame["review_flags"] & int(on_cutout)) == 0)]
    for question in answers.questions:
        asked = clean[clean[question.asked_column] >= 0.5]
        for place, name in enumerate(question.fraction_columns):
            strongest = answers.strongest(question, place)
            examples = read_examples(counted.uri, counted.manifest, list(strongest))
            best = asked[name].astype(float).nlargest(SAMPLE)
            assert [examples[row].object_id for row in strongest] == best.index.tolist()
            assert list(strongest.values()) == pytest.approx(best.tolist())


def test_nothing_is_kept_of_other_rows() -> None:
    counts = AnswerCounts(FEW_QUESTIONS, sample_rows=5)
    assert counts.galaxies(FEW_QUESTIONS[0]) == 0
    assert np.isnan(counts.mean(FEW_QUESTIONS[0])).all()
    rows = with_votes(sky_rows(500))
    for row_group in range(20):
        counts.add(rows, np.ones(500, bool), 0, row_group)
    sizes = [len(counts.strongest(question, n)) for question in FEW_QUESTIONS for n in range(len(question.answers))]
    assert set(sizes) == {5}
    assert len(counts._sampler._key) == 5 * len(sizes)  # whatever the number of rows
    none = AnswerCounts((), 5)
    none.add(pa.table({"x": [1]}), np.ones(1, bool), 0, 0)
    assert none.columns == []
