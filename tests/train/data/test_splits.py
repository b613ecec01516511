import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.errors import InputError
from train.config import SplitConfig
from train.data.splits import split_galaxies

IDS = pa.chunked_array([np.arange(20_000) + 1237648720693755918])


def test_parts_are_disjoint_complete_and_of_their_size() -> None:
    split = split_galaxies(IDS, SplitConfig(folds=5, calibration_fraction=0.1))
    together = np.concatenate([split.train, split.calibration, split.test])
    assert sorted(together) == list(range(len(IDS)))
    assert len(split.test) / len(IDS) == pytest.approx(0.2, abs=0.01)
    assert len(split.calibration) / len(IDS) == pytest.approx(0.08, abs=0.01)


def test_a_galaxy_stays_on_its_side_whatever_else_is_there() -> None:
    whole = split_galaxies(IDS, SplitConfig())
    some = np.random.default_rng(0).permutation(len(IDS))[:5000]
    part = split_galaxies(IDS.take(pa.array(some)), SplitConfig())
    for side in ("train", "calibration", "test"):
        assert set(some[getattr(part, side)]) <= set(getattr(whole, side))


def test_folds_cover_every_galaxy_once() -> None:
    tests = [split_galaxies(IDS, SplitConfig(folds=4, fold=fold)).test for fold in range(4)]
    assert sorted(np.concatenate(tests)) == list(range(len(IDS)))


def test_integers_and_their_text_split_alike() -> None:
    a, b = split_galaxies(IDS, SplitConfig()), split_galaxies(IDS.cast(pa.string()), SplitConfig())
    assert np.array_equal(a.test, b.test)


def test_the_seed_matters_and_folds_have_a_range() -> None:
    assert not np.array_equal(
        split_galaxies(IDS, SplitConfig(seed=1)).test[:50], split_galaxies(IDS, SplitConfig()).test[:50]
    )
    with pytest.raises(InputError, match=r"split\.fold = 5: must be below"):
        SplitConfig(folds=5, fold=5)
