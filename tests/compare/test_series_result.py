"""What a series says of its newest catalog."""

import dataclasses

import pytest

from galaxy_batch.compare.series_result import CatalogNumbers, NotCompared, Series, Skipped


def catalog(release: str, created: str) -> CatalogNumbers:
    return CatalogNumbers(
        catalog_uri=f"/{release}", release=release, model_id="m", created=created, rows=1, failed=0, failed_share=0.0,
        failed_interval=(0.0, 1.0), flagged=0, flagged_share=0.0, flagged_interval=(0.0, 1.0), without_position=0,
        status_counts={}, class_counts={}, class_shares={}, flag_counts={}, confidence={},
    )  # fmt: skip


def series(**changes: object) -> Series:
    catalogs = (catalog("b", "2025"), catalog("a", "2024"))
    whole = Series("/s", "name", ("b", "a"), ("m",), catalogs, (), ())
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def test_the_newest_was_published_last_wherever_it_is_in_the_order() -> None:
    assert (series().newest, series().last_step, series().unjudged) == (0, None, "")


@pytest.mark.parametrize(("created", "judged"), [("2023", True), ("2026", False), ("", True)])
def test_a_newer_catalog_that_cannot_be_read_is_judged_by_no_gate(created: str, judged: bool) -> None:
    assert (series(skipped=(Skipped("/c", "c", "m", "is damaged", created),)).unjudged == "") is judged


@pytest.mark.parametrize(("new", "reason"), [(0, "two types of ids"), (1, "")])
def test_only_the_comparison_of_the_newest_matters(new: int, reason: str) -> None:
    assert series(not_compared=(NotCompared(1 - new, new, "two types of ids"),)).unjudged == reason
