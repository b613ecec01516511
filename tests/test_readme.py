"""What the README shows works: its paths exist, its commands parse, its queries run on a real catalog."""

import re
import shlex
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from galaxy_batch.config import CatalogConfig, PackConfig, load_config
from galaxy_batch.export import ExportConfig
from galaxy_batch.pipeline import classify_release, plan_release
from galaxy_batch.rows import CATALOG_COLUMNS, ReviewFlag, Status
from galaxy_batch.synthetic import SurveyFiles
from jobs.benchmark import BenchmarkConfig
from tests.conftest import REPOSITORY, SavedModel
from tests.test_pipeline import config_for
from train.recipe import TrainConfig

README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def catalog_uri(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path_factory: pytest.TempPathFactory, ray_started: None
) -> str:
    output = tmp_path_factory.mktemp("readme")
    uri: str = classify_release(plan_release(config_for(survey, saved_model, output)))["catalog_uri"]
    return uri


def test_sql_recipes_run(catalog_uri: str) -> None:
    statements = [s for block in blocks("sql") for s in block.split(";") if s.strip()]
    assert len(statements) >= 3
    for statement in statements:
        assert duckdb.sql(statement.replace("CATALOG", catalog_uri)).fetchall(), statement


def test_python_recipes_run(catalog_uri: str) -> None:
    assert len(blocks("python")) >= 1
    for block in blocks("python"):
        names: dict[str, Any] = {}
        exec(block.replace("CATALOG", catalog_uri), names)
        assert isinstance(names["catalog"], pd.DataFrame)
        assert len(names["catalog"]) == 40


def test_commands_name_jobs_and_files_that_are_there() -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    assert any("jobs.demo" in command for command in commands)
    assert any(command.endswith("uv run pytest") for command in commands)
    for command in commands:
        for word in shlex.split(command):
            if word.startswith("jobs."):
                assert (REPOSITORY / f"{word.replace('.', '/')}.py").is_file(), command
            elif "/" in word and "=" not in word:
                assert (REPOSITORY / word).is_file(), command


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (REPOSITORY / target).exists() or target.startswith("http"), target


def test_every_config_is_valid() -> None:
    files = sorted((REPOSITORY / "jobs" / "configs").glob("*.toml"))
    assert files
    kinds: dict[str, Any] = {
        "train": TrainConfig, "pack": PackConfig, "benchmark": BenchmarkConfig, "export": ExportConfig,
    }  # fmt: skip
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
    assert "pip install uv && uv run pytest" in README
    assert "pip install uv && uv run pytest" in Path(REPOSITORY / ".ci" / "run").read_text()
