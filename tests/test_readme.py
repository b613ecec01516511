"""The documents are correct: paths exist, commands are valid; test_recipes.py runs the query recipes."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from galaxy_batch.rows import CATALOG_COLUMNS, ReviewFlag, Status
from tests.support.documents import DOCUMENTS, PACKAGE_README, README, blocks
from tests.support.repository import REPOSITORY


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 7000


@pytest.mark.parametrize("path", DOCUMENTS)
def test_commands_name_jobs_and_files_that_are_there(path: str) -> None:
    commands = [line for block in blocks("sh", DOCUMENTS[path]) for line in block.splitlines() if line.strip()]
    assert commands or path == "galaxy_batch/README.md"
    for command in commands:
        for word in shlex.split(command):
            if word.startswith(("jobs.", "tests.")):
                assert importlib.util.find_spec(word), command
            elif "/" in word and "=" not in word and "://" not in word:
                assert (REPOSITORY / word).exists(), command


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_somewhere(path: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENTS[path]):
        assert target.startswith("http") or ((REPOSITORY / path).parent / target).exists(), target


def test_every_job_has_a_section() -> None:
    jobs = {path.stem for path in (REPOSITORY / "jobs").glob("*.py") if "run_job(" in path.read_text()}
    jobs = jobs - {"command"} | {"benchmark"}
    described = set(re.findall(r"^## (\w+)$", DOCUMENTS["jobs/README.md"], re.MULTILINE))
    assert described == jobs


def test_the_tables_name_every_column_flag_and_status() -> None:
    for column in CATALOG_COLUMNS:
        assert f"`{column.name}`" in PACKAGE_README
    for flag in ReviewFlag:
        assert f"| {flag.value} | {flag.name} |" in PACKAGE_README
    for status in Status:
        assert f"`{status}`" in PACKAGE_README


def test_the_first_two_commands_do_everything() -> None:
    assert "pip install uv && uv run python -m jobs.demo" in README
    assert "pip install uv && uv run pytest -n 2" in README
    assert "pip install uv && uv run pytest -n 2" in Path(REPOSITORY / ".ci" / "run").read_text()
