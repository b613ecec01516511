"""What the README shows works: its paths exist, its commands parse; its recipes run in test_recipes.py."""

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

from galaxy_batch.compare.compare import CompareConfig
from galaxy_batch.config import CatalogConfig, PackConfig
from galaxy_batch.export.export import ExportConfig
from galaxy_batch.rows import CATALOG_COLUMNS, ReviewFlag, Status
from galaxy_batch.settings import load_config
from jobs.benchmark.__main__ import BenchmarkConfig
from jobs.release_report import ReleaseReportConfig
from tests.conftest import REPOSITORY
from train.config import TrainConfig

README = (REPOSITORY / "README.md").read_text()


def section(title: str) -> str:
    """What stands below a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert found, f"no section {title}"
    return found[1]


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks in a language; those of "Query it" are run by test_recipes.py."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_commands_name_jobs_and_files_that_are_there() -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    assert any("jobs.demo" in command for command in commands)
    assert any(command.endswith("uv run pytest -n 2") for command in commands)
    for command in commands:
        for word in shlex.split(command):
            if word.startswith("jobs."):
                assert importlib.util.find_spec(word), command
            elif "/" in word and "=" not in word:
                assert (REPOSITORY / word).exists(), command


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (REPOSITORY / target).exists() or target.startswith("http"), target


def test_every_config_is_valid() -> None:
    files = sorted((REPOSITORY / "jobs" / "configs").glob("*.toml"))
    assert files
    kinds: dict[str, Any] = {
        "train": TrainConfig,
        "pack": PackConfig,
        "benchmark": BenchmarkConfig,
        "compare": CompareConfig,
        "export": ExportConfig,
        "release": ReleaseReportConfig,
    }
    for file in files:
        kind = kinds.get(file.stem.partition("_")[0], CatalogConfig)
        assert load_config(kind, file)


def test_the_tables_name_every_column_flag_and_status() -> None:
    for column in CATALOG_COLUMNS:
        assert f"`{column.name}`" in README
    for flag in ReviewFlag:
        assert f"{flag.value} {flag.name}" in README
    for status in Status:
        assert f"`{status}`" in README


def test_the_first_two_commands_do_everything() -> None:
    assert "pip install uv && uv run python -m jobs.demo" in README
    assert "pip install uv && uv run pytest -n 2" in README
    assert "pip install uv && uv run pytest -n 2" in Path(REPOSITORY / ".ci" / "run").read_text()
