"""YAML, and the front matter of cards as the Hugging Face hub reads it."""

from typing import Any

import yaml

__all__ = ["as_yaml", "license_entries", "with_front_matter"]

_HUB_LICENSES = frozenset(
    [
        "afl-3.0",
        "agpl-3.0",
        "apache-2.0",
        "artistic-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsd-3-clause-clear",
        "bsl-1.0",
        "cc0-1.0",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-nc-2.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nc-nd-3.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-2.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nd-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "ecl-2.0",
        "epl-1.0",
        "epl-2.0",
        "eupl-1.1",
        "eupl-1.2",
        "isc",
        "mit",
        "mpl-2.0",
        "ms-pl",
        "ncsa",
        "odbl",
        "osl-3.0",
        "pddl",
        "postgresql",
        "unlicense",
        "wtfpl",
        "zlib",
    ]
)
"""Licences that the hub knows by the SPDX identifier in lower case: https://huggingface.co/docs/hub/repositories-licenses."""


def as_yaml(entries: dict[str, Any]) -> str:
    """Entries as YAML, in their order."""
    return str(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=100))


def with_front_matter(entries: dict[str, Any], text: str) -> bytes:
    """A Markdown document that begins with entries."""
    return f"---\n{as_yaml(entries)}---\n\n{text}".encode()


def license_entries(license_id: str | None) -> dict[str, str]:
    """A licence as the hub writes it: in lower case if it is one of its own, else with name and address.

    Args:
        license_id: SPDX identifier; None if it is not known.
    """
    if license_id is None:
        return {}
    if license_id.lower() in _HUB_LICENSES:
        return {"license": license_id.lower()}
    address = f"https://spdx.org/licenses/{license_id}.html"
    return {"license": "other", "license_name": license_id.lower(), "license_link": address}
