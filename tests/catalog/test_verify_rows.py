"""The rules for each row of a catalog, and where they come from."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from galaxy_batch.catalog.verify_rows import CatalogContract, broken_rules
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.sky.healpix import pixels_at
from tests.support.skies import CONTRACT, MODEL_ID, RELEASE, REVIEW, manifest_with, sky_rows
from tests.support.votes import FEW_QUESTIONS, with_votes


def catalog_rows(text_ids: bool = False) -> pa.Table:
    rows = sky_rows(3000, seed=4, without_position=0.1, text_ids=text_ids)
    rows = rows.append_column("release", pa.array([RELEASE] * len(rows)))
    return rows.append_column("model_id", pa.array([MODEL_ID] * len(rows)))


def with_values(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values.cast(rows.schema.field(name).type))


@pytest.mark.parametrize("text_ids", [False, True])
def test_good_rows_break_no_rule(text_ids: bool) -> None:
    assert broken_rules(catalog_rows(text_ids), CONTRACT) == {}


def test_the_contract_comes_from_the_manifest() -> None:
    assert CatalogContract.of(manifest_with()) == CONTRACT


def without_positions(rows: pa.Table, flagged: bool) -> pa.Table:
    """The rows of a survey that has no columns of positions."""
    flags = rows["review_flags"].to_numpy() & ~np.int32(64) | np.int32(64 * flagged)
    for name in ("ra", "dec", "_healpix_29"):
        rows = with_values(rows, name, pa.nulls(len(rows), rows.schema.field(name).type))
    rows = with_values(rows, "review_flags", pa.array(flags))
    return with_values(rows, "needs_review", pa.array(flags != 0))


@pytest.mark.parametrize(("no_position", "by_older_version"), [(0, False), (3000, True)])
def test_a_survey_without_positions_is_verified_by_the_rule_of_its_time(
    no_position: int, by_older_version: bool
) -> None:
    """Older versions set NO_POSITION on all of its rows; now it is set on none."""
    manifest = manifest_with()
    config = {**manifest.config, "manifest": {"ra_column": None}}
    flag_counts = {**manifest.flag_counts, "NO_POSITION": no_position}
    contract = CatalogContract.of(manifest_with(config=config, flag_counts=flag_counts))
    rows = catalog_rows()
    assert broken_rules(without_positions(rows, by_older_version), contract) == {}
    assert set(broken_rules(without_positions(rows, not by_older_version), contract)) == {"NO_POSITION at odds with ra"}


def test_a_catalog_from_before_a_flag_has_no_row_with_it() -> None:
    flag_counts = {flag.name: 1 for flag in ReviewFlag if flag is not ReviewFlag.UNSTABLE}
    older = manifest_with(flag_counts=flag_counts)
    rows = catalog_rows()
    assert set(broken_rules(rows, CatalogContract.of(older))) == {"unknown bits in review_flags"}
    flags = rows["review_flags"].to_numpy() & ~np.int32(ReviewFlag.UNSTABLE)
    rows = with_values(rows, "review_flags", pa.array(flags))
    rows = with_values(rows, "needs_review", pa.array(flags != 0))
    assert broken_rules(rows, CatalogContract.of(older)) == {}


def test_each_broken_row_is_marked_and_no_other() -> None:
    rows = catalog_rows()
    ra = rows["ra"].to_numpy().copy()
    ra[[10, 2000]] = 361
    broken = broken_rules(with_values(rows, "ra", pa.array(ra, from_pandas=True)), CONTRACT)
    assert np.flatnonzero(broken["ra or dec out of range"]).tolist() == [10, 2000]
    assert set(broken) <= {"ra or dec out of range", "NO_POSITION at odds with ra", "dec without ra, or the reverse"}


def test_a_neighbouring_pixel_is_rounding_and_a_distant_one_is_not() -> None:
    rows = catalog_rows()
    rows = rows.filter(rows["ra"].is_valid()).slice(8)
    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    for shift_arcsec, is_broken in ((0.0004, False), (0.003, True), (10.0, True)):
        pixels = pixels_at(ra, np.clip(dec + shift_arcsec / 3600, -90, 90))
        assert (pixels != rows["_healpix_29"].to_numpy()).mean() > 0.5
        broken = broken_rules(with_values(rows, "_healpix_29", pa.array(pixels)), CONTRACT)
        assert ("a _healpix_29 that is not the pixel of ra, dec" in broken) == is_broken
    nonsense = with_values(rows, "_healpix_29", pa.array(np.full(len(rows), 2**62)))
    assert broken_rules(nonsense, CONTRACT)["a _healpix_29 that is not the pixel of ra, dec"].all()


def test_no_row_is_unfamiliar_or_unstable_without_a_limit() -> None:
    limits = dataclasses.replace(REVIEW, max_unfamiliarity=None, max_instability=None)
    unlimited = dataclasses.replace(CONTRACT, limits=limits)
    rows = catalog_rows()
    without = rows
    for name in ("unfamiliarity", "instability"):
        without = with_values(without, name, pa.nulls(len(rows), pa.float32()))
    flags = rows["review_flags"].to_numpy() & ~np.int32(ReviewFlag.UNFAMILIAR | ReviewFlag.UNSTABLE)
    without = with_values(without, "review_flags", pa.array(flags))
    without = with_values(without, "needs_review", pa.array(flags != 0))
    assert broken_rules(without, unlimited) == {}
    assert set(broken_rules(rows, unlimited)) == {
        "UNFAMILIAR at odds with unfamiliarity by max_unfamiliarity",
        "UNSTABLE at odds with instability by max_instability",
    }


def test_nulls_hide_the_other_rules() -> None:
    rows = with_values(catalog_rows(), "status", pa.nulls(3000, pa.string()))
    assert list(broken_rules(rows, CONTRACT)) == ["a null in status"]


def test_every_flag_is_known() -> None:
    rows = catalog_rows()
    flags = pa.array(np.full(len(rows), int(sum(ReviewFlag)), np.int32))
    assert "unknown bits in review_flags" not in broken_rules(with_values(rows, "review_flags", flags), CONTRACT)


VOTED = dataclasses.replace(CONTRACT, questions=FEW_QUESTIONS, concentrations=True)


def voted_rows() -> pa.Table:
    return with_votes(catalog_rows(), concentrations=True)


def changed(rows: pa.Table, name: str, values: dict[int, float | None]) -> pa.Table:
    column = rows[name].to_pylist()
    for row, value in values.items():
        column[row] = value
    return with_values(rows, name, pa.array(column, pa.float32()))


def seen_row(rows: pa.Table) -> int:
    """A row with an image; all its answers have shares well within 0 and 1."""
    seen = rows["predicted_class"].is_valid().to_numpy()
    seen &= rows["smooth_or_featured_smooth_fraction"].fill_null(0).to_numpy() > 0.2
    seen &= rows["smooth_or_featured_featured_or_disk_fraction"].fill_null(0).to_numpy() > 0.2
    return int(np.flatnonzero(seen)[7])


def test_rows_with_votes_break_no_rule() -> None:
    rows = voted_rows()
    assert broken_rules(rows, VOTED) == {}
    names = [name for name in rows.column_names if not name.endswith("_dirichlet")]
    assert broken_rules(rows.select(names), dataclasses.replace(VOTED, concentrations=False)) == {}


FEATURED, YES = "smooth_or_featured_featured_or_disk_fraction", "disk_edge_on_yes_fraction"
SUM, ASKED = "fractions of {} that do not sum to 1", "{}_asked_fraction at odds with the answers that lead there"
MISSING = "an answer to {} without an image, or the reverse"


@pytest.mark.parametrize(
    ("name", "value", "rules"),
    [
        ("disk_edge_on_asked_fraction", 0.0, {ASKED.format("disk_edge_on")}),
        ("disk_edge_on_asked_fraction", 1.01, {"disk_edge_on_asked_fraction outside 0…1",
                                               ASKED.format("disk_edge_on")}),
        ("smooth_or_featured_asked_fraction", 0.99, {ASKED.format("smooth_or_featured")}),
        ("disk_edge_on_asked_fraction", float("nan"), {"disk_edge_on_asked_fraction outside 0…1",
                                                       ASKED.format("disk_edge_on")}),
        (YES, -0.5, {"fractions of disk_edge_on outside 0…1", SUM.format("disk_edge_on"),
                     ASKED.format("something_odd"), "concentrations of disk_edge_on at odds with the fractions"}),
        ("something_odd_yes_dirichlet", -1.0, {"concentrations of something_odd that are not positive",
                                               "concentrations of something_odd at odds with the fractions"}),
        ("something_odd_yes_dirichlet", float("inf"), {"concentrations of something_odd that are not positive",
                                                       "concentrations of something_odd at odds with the fractions"}),
        ("something_odd_yes_dirichlet", 1e6, {"concentrations of something_odd at odds with the fractions"}),
        ("something_odd_yes_dirichlet", None, {MISSING.format("something_odd"),
                                               "concentrations of something_odd that are not positive",
                                               "concentrations of something_odd at odds with the fractions"}),
    ],
)  # fmt: skip
def test_each_rule_of_the_decision_tree(name: str, value: float | None, rules: set[str]) -> None:
    rows = voted_rows()
    row = seen_row(rows)
    broken = broken_rules(changed(rows, name, {row: value}), VOTED)
    assert {rule: np.flatnonzero(where).tolist() for rule, where in broken.items()} == {rule: [row] for rule in rules}


def test_the_share_asked_is_the_product_along_the_path() -> None:
    """Swapping two answers keeps their sum, and changes who is asked the next questions."""
    rows = voted_rows()
    row = seen_row(rows)
    smooth, featured = rows["smooth_or_featured_smooth_fraction"][row], rows[FEATURED][row]
    swapped = changed(rows, "smooth_or_featured_smooth_fraction", {row: featured.as_py()})
    swapped = changed(swapped, FEATURED, {row: smooth.as_py()})
    assert set(broken_rules(swapped, dataclasses.replace(VOTED, concentrations=False))) == {
        ASKED.format("disk_edge_on"), ASKED.format("how_rounded")
    }  # fmt: skip


def test_answers_without_an_image_and_images_without_answers() -> None:
    rows = voted_rows()
    failed = int(np.flatnonzero(rows["predicted_class"].is_null().to_numpy())[0])
    assert set(broken_rules(changed(rows, YES, {failed: 0.5}), VOTED)) == {MISSING.format("disk_edge_on")}
    assert MISSING.format("disk_edge_on") in broken_rules(changed(rows, YES, {seen_row(rows): None}), VOTED)


def contract_of(spec: dict[str, object], classify: dict[str, object] | None = None) -> CatalogContract:
    config = {**manifest_with().config, "classify": classify or {}}
    return CatalogContract.of(manifest_with(checkpoint={"spec": spec, "temperature": 2.0}, config=config))


UNSURE = "no instability, though one view was not sure"


@pytest.mark.parametrize("classify", [{}, {"stability_views": 4}])
def test_only_a_sure_view_is_without_instability(classify: dict[str, object]) -> None:
    """The limit is of logits: probabilities have their difference divided by the temperature."""
    views = 1 if classify else 8
    rows = catalog_rows()
    rows = rows.filter(pc.is_valid(rows["predicted_class"])).slice(0, 4)
    p = np.array([0.9, 0.8, 0.2, 0.1], np.float32)
    rows = with_values(rows, "p_smooth", pa.array(p))
    rows = with_values(rows, "p_featured", pa.array(1 - p))
    rows = with_values(rows, "predicted_class", pa.array(["smooth", "smooth", "featured", "featured"]))
    rows = with_values(rows, "confidence", pa.array(np.maximum(p, 1 - p)))
    rows = with_values(rows, "instability", pa.nulls(4, pa.float32()))
    limit = 2.0 * np.log(0.8 / 0.2)

    def unsure(further_views_below: float | None) -> list[bool]:
        contract = contract_of({"views": views, "further_views_below": further_views_below}, classify)
        return broken_rules(rows, contract).get(UNSURE, np.zeros(4, bool)).tolist()

    assert unsure(limit - 0.01) == [False] * 4
    assert unsure(limit + 0.01) == [False, True, True, False]
    assert unsure(2.0 * np.log(9) + 0.01) == [True] * 4
    assert unsure(None) == [True] * 4
    assert UNSURE not in broken_rules(rows, contract_of({"views": 1, "further_views_below": limit}))
    assert UNSURE not in broken_rules(rows, CatalogContract.of(manifest_with()))  # older, or of unknown views
