"""YAML front matter of cards."""

import pytest
import yaml

from galaxy_batch.sharing.front_matter import license_entries, with_front_matter


def test_the_entries_come_before_the_text_in_their_order() -> None:
    card = with_front_matter({"license": "mit", "pretty_name": "A: name – with signs"}, "# Title\n").decode()
    empty, entries, text = card.split("---\n")
    assert (empty, text) == ("", "\n# Title\n")
    assert list(yaml.safe_load(entries).items()) == [("license", "mit"), ("pretty_name", "A: name – with signs")]


@pytest.mark.parametrize(
    ("license_id", "expected"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        (None, {}),
        (
            "GPL-3.0-only",
            {
                "license": "other",
                "license_name": "gpl-3.0-only",
                "license_link": "https://spdx.org/licenses/GPL-3.0-only.html",
            },
        ),
    ],
)
def test_licences_are_written_as_the_hub_writes_them(license_id: str | None, expected: dict[str, str]) -> None:
    assert license_entries(license_id) == expected
