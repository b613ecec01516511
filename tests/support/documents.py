"""The project's README files: their text, sections and code blocks."""

import re

from tests.support.repository import REPOSITORY

DOCUMENTS = {
    path: (REPOSITORY / path).read_text()
    for path in (
        "README.md", "galaxy_batch/README.md", "jobs/README.md", "train/README.md", "cluster/README.md",
        "tests/README.md",
    )
}  # fmt: skip
README, PACKAGE_README = DOCUMENTS["README.md"], DOCUMENTS["galaxy_batch/README.md"]


def section(title: str, text: str) -> str:
    """The text below a heading of the second level."""
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert match, f"no section {title}"
    return match[1]


def blocks(language: str, text: str) -> list[str]:
    """The fenced blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
