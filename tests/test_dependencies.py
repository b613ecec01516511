"""pyproject.toml and requirements.lock agree; `python .ci/lock.py` writes both."""

import re
import runpy
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.repository import REPOSITORY

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
LOCK = (REPOSITORY / "requirements.lock").read_text().splitlines()
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
GROUPS = PYPROJECT["dependency-groups"]
LOCKED_EXTRAS = runpy.run_path(str(REPOSITORY / ".ci" / "lock.py"))["EXTRAS"]


def test_the_lock_has_exact_versions_and_no_urls() -> None:
    assert [line for line in LOCK if not re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", line)] == []
    assert sorted(LOCK, key=lambda line: line.partition("==")[0]) == LOCK


def test_uv_and_pip_install_the_same_versions() -> None:
    constraints = PYPROJECT["tool"]["uv"]["constraint-dependencies"]
    assert constraints == LOCK


@pytest.mark.parametrize(
    "text",
    [*PYPROJECT["project"]["dependencies"], *(r for name in LOCKED_EXTRAS for r in EXTRAS[name]), *GROUPS["train"]],
)
def test_the_locked_version_is_in_the_range(text: str) -> None:
    requirement, locked = Requirement(text), dict(line.split("==") for line in LOCK)
    assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])


def test_the_package_allows_ranges_and_development_tools_are_pinned() -> None:
    assert [text for text in PYPROJECT["project"]["dependencies"] if "==" in text] == []
    own = {"galaxy-batch", "packaging"}
    assert [
        text for group in GROUPS.values() for text in group if "==" not in text and Requirement(text).name not in own
    ] == []
