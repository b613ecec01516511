"""Comparisons of catalogs with planted differences, so that every number is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from galaxy_batch.compare.compare import compare_catalogs
from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.compare.result import Comparison, plain
from galaxy_batch.errors import InputError
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.settings import parse_config
from galaxy_batch.sky.healpix import pixels_at
from tests.support.row_changes import failing, flipped, with_magnitudes
from tests.support.skies import publish_rows, read_catalog, sky_rows, with_columns

ROWS = 6000


@pytest.fixture(scope="module")
def old_rows() -> pa.Table:
    return with_magnitudes(sky_rows(ROWS, seed=5, without_position=0.03))


@pytest.fixture(scope="module")
def old(old_rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_rows(tmp_path_factory.mktemp("old"), old_rows, 1000, 900)


def planted(old_rows: pa.Table) -> pa.Table:
    """Of 6000 rows: the first 30 are gone, 150 flip, 60 lose their class; 200 come in."""
    rng = np.random.default_rng(9)
    classed = np.flatnonzero(old_rows["predicted_class"].is_valid().to_numpy())
    chosen = rng.permutation(classed[classed >= 30])[:210]
    marks = np.zeros(ROWS, np.bool_)
    marks[chosen[:150]] = True
    gone = np.zeros(ROWS, np.bool_)
    gone[chosen[150:]] = True
    changed = failing(flipped(old_rows, marks), gone).slice(30)
    positions = rng.uniform(0, 360, 200), rng.uniform(-60, 60, 200)
    return pa.concat_tables([changed, with_magnitudes(sky_rows(200, seed=5, positions=positions, first=ROWS), 1)])


@pytest.fixture(scope="module")
def new(old_rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_rows(tmp_path_factory.mktemp("new"), planted(old_rows), 1000, 900)


def compared(old: Path, new: Path, *overrides: str, **settings: Any) -> Comparison:
    values = {"old_uri": str(old), "new_uri": str(new), "output_uri": "unused", **settings}
    return compare_catalogs(parse_config(CompareConfig, values, overrides))


def frames(old: Path, new: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Both catalogs, and their objects joined by pandas."""
    sides = read_catalog(old).to_pandas(), read_catalog(new).to_pandas()
    return *sides, sides[0].merge(sides[1], on="object_id", suffixes=("", "_new"))


def test_a_catalog_does_not_differ_from_itself(old: Path) -> None:
    result = compared(old, old, "min_cell_rows=50", bin_columns=["r"])
    assert (result.matching.matched, result.matching.only_old, result.matching.only_new) == (ROWS, 0, 0)
    assert (result.flipped, result.flip_rate, result.flips) == (0, 0, [])
    assert all((shift.psi, shift.ks, shift.mean_change) == (0, 0, 0) for shift in result.shifts.values())
    assert not np.nan_to_num(result.mix.difference).any()
    assert not result.bin_mixes[0].difference.any()
    assert len(result.sky.groups) >= 48
    assert not result.crossed


def test_planted_differences_are_all_detected(old: Path, new: Path) -> None:
    result = compared(old, new)
    first, second, both = frames(old, new)
    assert result.matching.matched == len(both) == ROWS - 30
    assert (result.matching.only_old, result.matching.only_new, result.matching.ambiguous) == (30, 200, 0)
    assert result.flipped == 150
    assert result.compared == both[["predicted_class", "predicted_class_new"]].notna().all(axis=1).sum()
    assert result.flip_rate == 150 / result.compared
    assert result.flip_interval[0] < result.flip_rate < result.flip_interval[1]
    names = ["smooth", "featured", "none"]
    wanted = pd.crosstab(both["predicted_class"].fillna("none"), both["predicted_class_new"].fillna("none"))
    assert result.transitions.tolist() == wanted.reindex(index=names, columns=names, fill_value=0).to_numpy().tolist()
    assert result.transitions[:2, 2].sum() == 60
    assert (result.failed.old, result.failed.new) == tuple(s["predicted_class"].isna().sum() for s in (first, second))
    assert (result.flagged.old, result.flagged.new) == (first["needs_review"].sum(), second["needs_review"].sum())
    for flag, rates in zip(ReviewFlag, result.flags, strict=True):
        assert (rates.name, rates.old) == (flag.name, ((first["review_flags"] & int(flag)) != 0).sum())
        assert rates.new == ((second["review_flags"] & int(flag)) != 0).sum()
    for number, name in enumerate(("smooth", "featured")):
        shares = [(s["predicted_class"].dropna() == name).mean() for s in (first, second)]
        assert result.mix.difference[0, number] == pytest.approx(shares[1] - shares[0], abs=1e-12)


def test_examples_are_the_most_confident_class_changes_with_exact_ids(old: Path, new: Path) -> None:
    result = compared(old, new, "examples=10")
    _, _, both = frames(old, new)
    changed = both[both[["predicted_class", "predicted_class_new"]].notna().all(axis=1)]
    changed = changed[changed["predicted_class"] != changed["predicted_class_new"]]
    lower = changed[["confidence", "confidence_new"]].min(axis=1).sort_values(ascending=False)
    assert [min(flip.old_confidence, flip.new_confidence) for flip in result.flips] == lower.head(10).tolist()
    by_id = changed.set_index("object_id")
    for flip in result.flips:
        row = by_id.loc[int(flip.old_id)]
        assert flip.old_id == flip.new_id
        assert (flip.old_class, flip.new_class) == (row["predicted_class"], row["predicted_class_new"])
        assert (flip.ra == row["ra"]) or (flip.ra is None and np.isnan(row["ra"]))
    assert len(compared(old, new, "examples=1000").flips) == 150
    assert compared(old, new, "examples=0").flips == []


def test_effect_sizes_match_the_columns(old: Path, new: Path) -> None:
    result = compared(old, new)
    assert list(result.shifts) == ["confidence", "p_smooth", "p_featured"]
    first, second, both = frames(old, new)
    for name, shift in result.shifts.items():
        assert (shift.old_rows, shift.new_rows) == (first[name].count(), second[name].count())
        assert shift.new_mean == pytest.approx(second[name].mean(), rel=1e-5)
        assert shift.mean_change == pytest.approx((both[f"{name}_new"] - both[name]).abs().mean(), rel=1e-5)
        grid = np.unique(np.concatenate([first[name].dropna(), second[name].dropna()]))
        cdf = [np.searchsorted(np.sort(s[name].dropna()), grid, "right") / s[name].count() for s in (first, second)]
        assert shift.ks == pytest.approx(np.abs(cdf[0] - cdf[1]).max())


def test_objects_under_new_ids_are_matched_by_position(
    old_rows: pa.Table, old: Path, new: Path, tmp_path: Path
) -> None:
    """The same differences under text ids and a fifth of an arcsecond away; where there is no position, no match."""
    rows = planted(old_rows)
    ids = [f"N{number}" for number in range(len(rows))]
    placed = rows["ra"].is_valid().to_numpy()
    dec = np.clip(np.nan_to_num(rows["dec"].to_numpy()) + 0.2 / 3600, -90, 90)
    pixels = pixels_at(np.nan_to_num(rows["ra"].to_numpy()), dec)
    rows = rows.set_column(0, "object_id", pa.array(ids))
    rows = with_columns(rows, dec=pa.array(dec, mask=~placed), _healpix_29=pa.array(pixels, mask=~placed))
    renamed = publish_rows(tmp_path, rows, 1000, 900)
    with pytest.raises(InputError, match="match by position"):
        compared(old, renamed)
    result = compared(old, renamed, match="position", radius_arcsec=0.5)
    _, _, both = frames(old, new)
    seen = both[both["ra"].notna()]
    assert result.matching.matched == len(seen)
    assert result.matching.nowhere_old == old_rows["ra"].null_count
    assert result.matching.nowhere_new == (~placed).sum()
    assert result.matching.median_separation_arcsec == pytest.approx(0.2, rel=1e-3)
    labels = seen[["predicted_class", "predicted_class_new"]].dropna()
    assert result.flipped == (labels["predicted_class"] != labels["predicted_class_new"]).sum() > 100
    assert not compared(old, renamed, match="position", radius_arcsec=0.1).matching.matched > 10


def test_a_change_in_one_bin_crosses_the_gate_of_that_bin(old_rows: pa.Table, old: Path, tmp_path: Path) -> None:
    """A tenth of all galaxies are faint, and a third of those change from smooth to featured."""
    magnitude = old_rows["r"].to_numpy()
    smooth = old_rows["predicted_class"].to_pandas().eq("smooth").to_numpy()
    which = (magnitude > np.quantile(magnitude, 0.9)) & smooth & (np.arange(ROWS) % 2 == 0)
    changed = publish_rows(tmp_path, flipped(old_rows, which), 1000, 900)
    result = compared(old, changed, bin_columns=["r"], bins=10, gates={"max_flip_rate": 0.2})
    (mix,) = result.bin_mixes
    assert (mix.difference[:9] == 0).all()
    assert mix.difference[9, 1] == pytest.approx(which.sum() / mix.old_rows[9])
    (gate,) = [gate for gate in result.crossed if gate.name == "max_bin_share_change"]
    assert gate.where == f"r {mix.groups[9]}"
    assert gate.value == pytest.approx(mix.difference[9, 1])


def test_a_change_in_one_sky_cell_crosses_the_gate_of_that_cell(old_rows: pa.Table, old: Path, tmp_path: Path) -> None:
    pixels = old_rows["_healpix_29"].fill_null(-1).to_numpy()
    smooth = old_rows["predicted_class"].to_pandas().eq("smooth").to_numpy()
    changed = publish_rows(tmp_path, flipped(old_rows, smooth & (pixels >> 56 == 17)), 1000, 900)
    result = compared(old, changed, min_cell_rows=60)
    assert result.sky.order == 1
    (cell,) = np.flatnonzero(result.sky.difference[:, 1])
    assert result.sky.groups[cell] == "17"
    assert result.sky.new_share[cell].tolist() == [0, 1]
    assert "sky 17" in [gate.where for gate in result.crossed]


def test_catalogs_with_nothing_in_common_do_not_pass(old: Path, tmp_path: Path) -> None:
    other = publish_rows(tmp_path, with_magnitudes(sky_rows(500, seed=6, first=ROWS)))
    result = compared(old, other)
    assert (result.matching.matched, result.compared) == (0, 0)
    assert np.isnan(result.flip_rate)
    assert {"max_flip_rate", "max_only_old_fraction"} <= {gate.name for gate in result.crossed}
    assert result.shifts["p_smooth"].psi < 0.1
    passed = compared(old, other, "gates.max_only_old_fraction=inf", "gates.max_flip_rate=inf", "gates.max_psi=1",
                      "gates.max_class_share_change=1", "gates.max_flagged_rate_increase=1",
                      "gates.max_failed_rate_increase=1")  # fmt: skip
    assert not passed.crossed


def test_the_result_is_plain_json(old: Path, new: Path) -> None:
    content = json.loads(json.dumps(plain(compared(old, new, bin_columns=["r"])), allow_nan=False))
    assert content["flipped"] == 150
    assert content["bin_mixes"][0]["of"] == "r"
    assert content["flips"][0]["old_id"].isdigit()
    limits = {gate["name"]: gate["limit"] for gate in content["gates"]}
    assert limits["max_flip_rate"] == 0.05
    assert limits["max_only_new_fraction"] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"old_uri": "/nowhere"}, "old_uri = '/nowhere': no catalog"),
        ({"new_uri": "nosuchscheme://x"}, "no driver"),
        ({"bin_columns": ["mag"]}, "bin_columns = 'mag': not a column"),
        ({"bin_columns": ["band"]}, "must be a numeric column, not string"),
        ({"bins": 1}, "must be between 2"),
        ({"gates": {"max_pis": 1.0}}, "did you mean gates.max_psi"),
    ],
)
def test_bad_settings_are_named(old: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compared(old, old, **settings)


def test_a_damaged_catalog_is_not_compared(old: Path, old_rows: pa.Table, tmp_path: Path) -> None:
    some = old_rows.slice(0, 300)
    doubled = publish_rows(tmp_path / "doubled", pa.concat_tables([some, some.slice(0, 1)]))
    with pytest.raises(InputError, match="an id is in more than one row"):
        compared(old, doubled)
    broken = publish_rows(tmp_path / "broken", some)
    next(broken.glob("dataset/**/Npix=*.parquet")).unlink()
    with pytest.raises(InputError, match="is missing: verify"):
        compared(old, broken)
    unplaced = publish_rows(tmp_path / "unplaced", sky_rows(50, without_position=1.0))
    with pytest.raises(InputError, match="no row has a position"):
        compared(old, unplaced, match="position")
