"""Merged verdicts, compared with counts by hand and with a simulation."""

import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.verdicts.merge import merge_verdicts


def verdicts_of(*rows: tuple[int, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["object_id", "reviewer", "verdict"])


def simulated(objects: int, each: int, reviewers: int, seed: int) -> tuple[pd.DataFrame, "pd.Series[str]"]:
    """Reviewers who are right in 60 to 98%; ids that floats cannot hold."""
    rng = np.random.default_rng(seed)
    ids = 1_237_648_720_693_755_918 + np.arange(objects)
    truth = rng.random(objects) < 0.45
    right = rng.uniform(0.6, 0.98, (reviewers, 2))
    place = np.repeat(np.arange(objects), each)
    who = np.concatenate([rng.choice(reviewers, each, replace=False) for _ in range(objects)])
    said = truth[place] ^ (rng.random(len(place)) > right[who, truth[place].astype(int)])
    names = np.array(["smooth", "featured"])
    rows = {"object_id": ids[place], "reviewer": [f"r{n}" for n in who], "verdict": names[said.astype(int)]}
    return pd.DataFrame(rows), pd.Series(names[truth.astype(int)], ids)


def test_majority_by_hand() -> None:
    verdicts = verdicts_of(
        (2**62 + 1, "a", "smooth"), (2**62 + 1, "b", "smooth"), (2**62 + 1, "c", "artifact"),
        (5, "a", "smooth"), (5, "b", "featured"),
        (9, "c", "featured"),
    )  # fmt: skip
    merged, method = merge_verdicts(verdicts, "auto")
    assert method == "majority"
    assert merged.index.tolist() == [5, 9, 2**62 + 1]
    assert merged["reviewed_class"].isna().tolist() == [True, False, False], "two equal shares decide nothing"
    assert merged["reviewed_class"].tolist()[1:] == ["featured", "smooth"]
    assert merged["reviewed_probability"].tolist() == pytest.approx([1 / 2, 1, 2 / 3])


def test_single_verdicts_need_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crowdkit.aggregation", None)
    merged, method = merge_verdicts(verdicts_of((7, "a", "smooth"), (3, "b", "featured")), "auto")
    assert method is None
    assert merged["reviewed_class"].to_dict() == {3: "featured", 7: "smooth"}
    assert set(merged["reviewed_probability"]) == {1.0}
    with pytest.raises(InputError, match="need crowd-kit: `uv sync --extra review`"):
        merge_verdicts(verdicts_of((7, "a", "smooth"), (7, "b", "featured")), "auto")


def test_no_verdicts_at_all() -> None:
    merged, method = merge_verdicts(verdicts_of(), "auto")
    assert len(merged) == 0
    assert method is None


@pytest.mark.parametrize(("reviewers", "method"), [(10, "dawid_skene"), (30, "majority")])
def test_the_method_follows_the_verdicts_of_each_person(reviewers: int, method: str) -> None:
    verdicts, truth = simulated(300, 3, reviewers, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merged, used = merge_verdicts(verdicts, "auto")
    assert used == method
    assert merged.index.tolist() == truth.index.tolist()


def test_of_two_people_who_disagree_none_is_right() -> None:
    rows = [
        (number, who, "smooth" if number % 5 or who == "a" else "featured") for number in range(200) for who in "ab"
    ]
    merged, method = merge_verdicts(verdicts_of(*rows), "auto")
    assert method == "majority"
    assert merged["reviewed_class"].isna().sum() == 40


def test_dawid_and_skene_have_better_probabilities_where_people_gave_many_verdicts() -> None:
    errors = {"majority": 0.0, "dawid_skene": 0.0}
    for seed in range(3):
        verdicts, truth = simulated(300, 5, 20, seed)
        for method in ("majority", "dawid_skene"):
            merged, _ = merge_verdicts(verdicts, method)
            best = merged["reviewed_probability"]
            right = (merged["reviewed_class"] == truth).astype(float).where(merged["reviewed_class"].notna(), 0.5)
            errors[method] += float(((best - right) ** 2).mean())
    assert errors["dawid_skene"] < 0.8 * errors["majority"]


@pytest.mark.parametrize("method", ["majority", "dawid_skene"])
def test_the_order_of_the_rows_does_not_matter(method: str) -> None:
    verdicts, _ = simulated(100, 3, 6, seed=5)
    one, _ = merge_verdicts(verdicts, method)  # type: ignore[arg-type]
    other, _ = merge_verdicts(verdicts.sample(frac=1, random_state=3), method)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(one, other, check_exact=True)
