"""Who is drawn: exact inclusion probabilities, the same rows wherever they are, none without an image."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy import stats

from galaxy_batch.catalog.manifest import CatalogManifest, require_manifest
from galaxy_batch.config import ReviewConfig
from galaxy_batch.errors import InputError
from galaxy_batch.review.flags import audit_sample
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.review_queue.draw import Drawing, DrawnRows, draw_rows, id_keys
from galaxy_batch.rows import ReviewFlag
from tests.support.skies import CLASSES, manifest_with, publish_rows, schema_of, sky_rows, with_columns

AUDIT_FRACTION = 0.05  # of tests.support.skies


def draw(rows: pa.Table, manifest: CatalogManifest | None = None, **settings: Any) -> DrawnRows:
    """Draw from rows in memory, offered as one row group."""
    drawing = Drawing(ReviewQueueConfig("catalog", **settings), manifest or manifest_with(), rows.schema)
    drawing.add(rows, 0, 0)
    return drawing.rows(lambda places: rows.take([place.row for place in places]))


def by_id(drawn: DrawnRows) -> dict[int, tuple[str, float]]:
    names = ("object_id", "reason", "inclusion_probability")
    columns = [drawn.rows[name].to_pylist() for name in names]
    return {object_id: (reason, probability) for object_id, reason, probability in zip(*columns, strict=True)}


def with_audit_seed(rows: pa.Table, seed: int) -> pa.Table:
    """The rows as another audit seed would have flagged them."""
    audited = audit_sample(rows["object_id"], ReviewConfig(audit_fraction=AUDIT_FRACTION, audit_seed=seed))
    flags = rows["review_flags"].to_numpy() & ~int(ReviewFlag.AUDIT)
    return with_columns(rows, review_flags=flags | np.where(audited, int(ReviewFlag.AUDIT), 0).astype(np.int32))


DESIGNS: dict[str, dict[str, Any]] = {
    "uniform": {"uniform": 30},
    "strata": {"per_class": 6, "stratified": 3, "confidence_edges": (0.7, 0.9)},
    "optimal": {"optimal": 40, "confidence_edges": (0.7, 0.9)},
    "some of those named": {
        "flags": ("UNFAMILIAR", "LOW_CONFIDENCE"), "flags_rows": 10, "where": "confident", "where_rows": 10,
    },
    "audit": {"audit": True},
    "all together": {
        "uniform": 15, "per_class": 8, "stratified": 2, "flags": ("UNFAMILIAR",), "flags_rows": 6, "where_rows": 5,
        "where": "confident", "least_confident": 5, "audit": True,
    },
}  # fmt: skip


class Confident:
    """In place of an SQL condition."""

    columns = ("confidence",)

    def __init__(self, *_: object) -> None: ...

    def filter(self, rows: pa.Table) -> pa.Table:
        return rows.filter(pc.greater(rows["confidence"], 0.8))


@pytest.mark.parametrize("design", DESIGNS)
def test_a_galaxy_is_drawn_as_often_as_its_probability_says(design: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand seeds; each galaxy's count within five standard deviations, and all counts together by chi-square."""
    monkeypatch.setattr("galaxy_batch.review_queue.draw.Condition", Confident)  # DuckDB takes 10 ms a seed
    rows, manifest, seeds = sky_rows(160, seed=3), manifest_with(), 1000
    counts: dict[int, int] = {}
    stated: dict[int, float] = {}
    for seed in range(seeds):
        some = with_audit_seed(rows, seed) if "audit" in DESIGNS[design] else rows
        drawn = by_id(draw(some, manifest, seed=seed, **DESIGNS[design]))
        for object_id, (_, probability) in drawn.items():
            counts[object_id] = counts.get(object_id, 0) + 1
            assert stated.setdefault(object_id, probability) == probability
    drawable = rows.filter(rows["predicted_class"].is_valid())["object_id"].to_pylist()
    assert set(counts) <= set(drawable)
    assert all(0 < probability <= 1 for probability in stated.values())
    certain = [object_id for object_id, probability in stated.items() if probability == 1]
    assert {counts[object_id] for object_id in certain} <= {seeds}
    uncertain = [object_id for object_id in stated if stated[object_id] < 1]
    if uncertain:
        probability = np.array([stated[object_id] for object_id in uncertain])
        expected, spread = seeds * probability, np.sqrt(seeds * probability * (1 - probability))
        deviations = (np.array([counts[object_id] for object_id in uncertain]) - expected) / spread
        assert np.abs(deviations).max() < 5
        assert stats.chi2.sf((deviations**2).sum(), len(deviations)) > 1e-4
    if "where" not in DESIGNS[design] and "flags" not in DESIGNS[design]:
        assert set(counts) == set(drawable)


def test_the_audit_alone_has_the_fraction_of_its_catalog() -> None:
    rows = sky_rows(2000)
    drawn = draw(rows, audit=True)
    audited = pc.and_(pc.not_equal(pc.bit_wise_and(rows["review_flags"], 128), 0), rows["predicted_class"].is_valid())
    assert set(by_id(drawn)) == set(rows.filter(audited)["object_id"].to_pylist())
    assert {reason for reason, _ in by_id(drawn).values()} == {"AUDIT"}
    assert drawn.rows["inclusion_probability"].to_pylist() == pytest.approx([AUDIT_FRACTION] * len(drawn.rows))
    assert drawn.draws == [
        {"reason": "AUDIT", "population": len(drawn.rows), "drawn": len(drawn.rows), "probability": AUDIT_FRACTION}
    ]
    without = manifest_with(config={**manifest_with().config, "review": {"min_repeats": 3, "audit_fraction": 0.0,
                                                                         "audit_seed": 0}})  # fmt: skip
    with pytest.raises(InputError, match="the catalog has no audit sample"):
        draw(rows, without, audit=True)


def test_named_galaxies_have_probability_one_and_all_their_reasons() -> None:
    rows = sky_rows(1000)
    drawn = by_id(draw(rows, flags=("UNFAMILIAR", "LOW_CONFIDENCE"), where="confidence < 0.52", least_confident=7,
                       uniform=100))  # fmt: skip
    usable = rows.filter(rows["predicted_class"].is_valid()).to_pylist()
    lowest = {row["object_id"] for row in sorted(usable, key=lambda row: row["confidence"])[:7]}
    uniform = {object_id for object_id, (reason, _) in drawn.items() if "uniform" in reason}
    assert len(uniform) == 100
    for row in usable:
        expected = [name for name in ("LOW_CONFIDENCE", "UNFAMILIAR") if row["review_flags"] & ReviewFlag[name]]
        expected += ["where"] * (row["confidence"] < 0.52) + ["least_confident"] * (row["object_id"] in lowest)
        named = bool(expected)
        expected += ["uniform"] * (row["object_id"] in uniform)
        assert (row["object_id"] in drawn) == bool(expected)
        if expected:
            reason, probability = drawn[row["object_id"]]
            assert reason == "; ".join(expected)
            assert probability == pytest.approx(1 if named else 100 / len(usable))


def test_equally_confident_galaxies_are_drawn_the_same_with_any_seed() -> None:
    rows = sky_rows(200)
    rows = with_columns(rows, confidence=np.where(rows["confidence"].is_null(), np.nan, 0.7).astype(np.float32))
    first, second = (set(by_id(draw(rows, least_confident=20, seed=seed))) for seed in (1, 2))
    assert first == second
    assert len(first) == 20


def test_the_record_counts_each_stratum() -> None:
    rows = sky_rows(500)
    drawn = draw(rows, per_class=40, least_confident=3, stratified=1, confidence_edges=(0.75,))
    usable = rows.filter(rows["predicted_class"].is_valid())
    for entry in drawn.draws[1:3]:
        population = pc.sum(pc.equal(usable["predicted_class"], entry["stratum"])).as_py()
        assert entry == {"reason": "per_class", "stratum": entry["stratum"], "population": population, "drawn": 40,
                         "probability": 40 / population}  # fmt: skip
    assert drawn.draws[0] == {
        "reason": "least_confident", "population": len(usable), "drawn": 3, "probability": None,
    }  # fmt: skip
    assert [entry["stratum"] for entry in drawn.draws[3:]] == [
        f"{name}, confidence {limits}" for name in CLASSES for limits in ("0 to 0.75", "0.75 to 1")
    ]
    assert sum(entry["population"] for entry in drawn.draws[3:]) == len(usable)


@pytest.mark.parametrize("text_ids", [False, True])
def test_the_same_galaxies_whatever_the_order_and_the_files(tmp_path: Path, text_ids: bool) -> None:
    rows = sky_rows(900, text_ids=text_ids, without_position=0.1)
    shuffled = rows.take(np.random.default_rng(5).permutation(len(rows)))
    config = {"seed": 4, **DESIGNS["all together"], "where": "confidence > 0.8"}
    drawn = []
    for number, (some, max_rows) in enumerate([(rows, 100), (shuffled, 5000)]):
        catalog = str(publish_rows(tmp_path / str(number), some, max_rows=max_rows))
        columns = ("object_id", "ra", "image_hash")
        drawn.append(
            draw_rows(ReviewQueueConfig(catalog, **config), require_manifest(catalog), schema_of(rows), columns)
        )
    first, second = (by_id(one) for one in drawn)
    assert first == second
    assert drawn[0].draws == drawn[1].draws
    assert first != by_id(draw(rows, **{**config, "seed": 5}))


def test_rows_without_an_image_are_never_drawn() -> None:
    rows = sky_rows(500)
    drawn = draw(rows, uniform=1000, flags=("AUDIT", "REPEATED_IMAGE"), where="status != 'ok' or confidence > 0")
    assert len(drawn.rows) == 500 - rows["predicted_class"].null_count
    assert set(drawn.rows["status"].to_pylist()) == {"ok"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"uniform": 100, "max_rows": 99}, "max_rows = 99: more galaxies are drawn"),
        ({"where": "confidence >= 0", "max_rows": 99}, "max_rows = 99: more galaxies are drawn"),
        ({"where": "confidence > 2"}, "no galaxy with an image is drawn"),
        ({"where": "confidence >"}, "where = 'confidence >'"),
        ({"where": "nothing > 2"}, "where = 'nothing > 2'"),
        ({"flags": ("UNREADABLE",)}, "these galaxies have no image to look at"),
        ({"flags": ("UNSURE",)}, "no such flag; the flags are LOW_CONFIDENCE, BLANK"),
    ],
)
def test_what_cannot_be_drawn(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw(sky_rows(300), **settings)


def test_keys_depend_on_purpose_and_seed_and_not_on_the_type() -> None:
    ids = pa.chunked_array([pa.array([1, 2, 2**63 - 1])])
    keys: list[npt.NDArray[np.uint64]] = [id_keys(ids, "a", 0), id_keys(ids, "a", 1), id_keys(ids, "b", 0)]
    assert len(np.unique(np.concatenate(keys))) == 9
    assert id_keys(ids.cast(pa.string()), "a", 0).tolist() == keys[0].tolist()
