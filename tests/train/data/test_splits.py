import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.errors import InputError
from train.config import SplitConfig
from train.data.splits import split_galaxies

IDS = pa.chunked_array([np.arange(20_000) + 1237648720693755918])


def test_parts_are_disjoint_and_complete() -> None:
    split = split_galaxies(IDS, SplitConfig(folds=5, calibration_fraction=0.1))
    together = np.concatenate([split.train, split.calibration, split.test])
    assert sorted(together) == list(range(len(IDS)))
    assert len(split.test) / len(IDS) == pytest.approx(0.2, abs=0.01)
    assert len(split.calibration) / len(IDS) == pytest.approx(0.08, abs=0.01)


def test_a_galaxys_part_does_not_depend_on_the_other_rows() -> None:
    whole = split_galaxies(IDS, SplitConfig())
    some = np.random.default_rng(0).permutation(len(IDS))[:5000]
    part = split_galaxies(IDS.take(pa.array(some)), SplitConfig())
    for side in ("train", "calibration", "test"):
        assert set(some[getattr(part, side)]) <= set(getattr(whole, side))


def test_each_galaxy_is_in_one_test_fold() -> None:
    tests = [split_galaxies(IDS, SplitConfig(folds=4, fold=fold)).test for fold in range(4)]
    assert sorted(np.concatenate(tests)) == list(range(len(IDS)))


def test_integer_and_text_ids_split_alike() -> None:
    integers, texts = split_galaxies(IDS, SplitConfig()), split_galaxies(IDS.cast(pa.string()), SplitConfig())
    assert np.array_equal(integers.test, texts.test)


def test_seed_and_range_of_folds() -> None:
    assert not np.array_equal(
        split_galaxies(IDS, SplitConfig(seed=1)).test[:50], split_galaxies(IDS, SplitConfig()).test[:50]
    )
    with pytest.raises(InputError, match=r"split\.fold = 5: must be below"):
        SplitConfig(folds=5, fold=5)
