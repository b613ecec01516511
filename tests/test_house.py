"""The house keeps its shape: imports point one way, public names are declared, importing does nothing."""

import ast
import graphlib
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

MODULES = sorted(
    path.relative_to(REPOSITORY)
    for folder in ("galaxy_batch", "train", "jobs")
    for path in (REPOSITORY / folder).rglob("*.py")
)
STAGES = {"manifest", "cutouts", "classify", "review", "parts", "catalog", "verify"}
# What a stage may build on beside the vocabulary (rows, config, settings, errors, storage).
ALLOWED_BETWEEN_STAGES = {("verify", "catalog")}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((REPOSITORY / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
    return {name for name in found if name.split(".")[0] in ("galaxy_batch", "train", "jobs", "tests")}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_arrows_point_from_jobs_to_train_to_galaxy_batch(path: Path) -> None:
    allowed = {
        "galaxy_batch": {"galaxy_batch"},
        "train": {"galaxy_batch", "train"},
        "jobs": {"galaxy_batch", "train", "jobs"},
    }
    assert {name.split(".")[0] for name in imports(path)} <= allowed[path.parts[0]]


def test_the_vocabulary_imports_nothing_else_of_ours() -> None:
    for name in ("rows", "settings", "errors"):
        assert imports(Path("galaxy_batch") / f"{name}.py") <= {"galaxy_batch.errors"}
    assert imports(Path("galaxy_batch/config.py")) <= {"galaxy_batch.errors", "galaxy_batch.settings"}


def test_only_the_pipeline_knows_the_stages() -> None:
    for path in MODULES:
        if path.parts[0] != "galaxy_batch" or path.stem in ("pipeline", "__init__"):
            continue
        used = {name.split(".")[1] for name in imports(path) if "." in name} & STAGES
        if path.stem in STAGES:
            assert {(path.stem, other) for other in used} <= ALLOWED_BETWEEN_STAGES


def test_no_room_of_the_house_needs_one_that_needs_it() -> None:
    """A room is a module of `galaxy_batch`, or a folder of them."""
    needs: dict[str, set[str]] = {}
    for path in MODULES:
        if path.parts[0] == "galaxy_batch" and path.name != "__init__.py":
            room = Path(path.parts[1]).stem
            needs.setdefault(room, set()).update(
                name.split(".")[1] for name in imports(path) if "." in name and name.split(".")[1] != room
            )
    order = list(graphlib.TopologicalSorter(needs).static_order())  # CycleError names the circle, if there is one
    assert {"rows", "storage", "pipeline"} <= needs.keys() == set(order)
    assert order.index("rows") < order.index("pipeline")


def test_the_readme_says_what_is_in_each_folder() -> None:
    table = (REPOSITORY / "README.md").read_text().partition("| folder of `galaxy_batch` |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == {path.parts[1] for path in MODULES if path.parts[0] == "galaxy_batch" and len(path.parts) > 2}


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__init__.py" and p.parts[0] != "jobs"], ids=str)
def test_public_names_are_declared_and_there(path: Path) -> None:
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        assert not name.startswith("_")
        if callable(value) and getattr(value, "__module__", "") == module.__name__:
            assert value.__doc__, f"{name} has no docstring"
    tree = ast.parse((REPOSITORY / path).read_text())
    defined = {
        n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_")
    }
    used_elsewhere = {
        alias.name
        for other in MODULES
        for node in ast.walk(ast.parse((REPOSITORY / other).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == module.__name__
        for alias in node.names
    }
    assert used_elsewhere & defined <= set(module.__all__), "imported elsewhere, but not in __all__"


def test_importing_everything_starts_nothing() -> None:
    names = [".".join(path.with_suffix("").parts) for path in MODULES if path.name != "__init__.py"]
    script = f"""
import importlib, logging, threading
for name in {names!r}:
    importlib.import_module(name)
import ray
assert not ray.is_initialized()
assert not logging.getLogger().handlers, logging.getLogger().handlers
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=120)


def test_only_the_classifier_loads_torch() -> None:
    """Each read and write worker that did would take 300 MB and seconds of a core."""
    names = [f"galaxy_batch.{name}" for name in ("manifest", "cutouts", "review", "parts", "shards", "publication")]
    script = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=120)


def test_every_module_has_its_tests() -> None:
    tested = {path.stem.removeprefix("test_") for path in (REPOSITORY / "tests").glob("test_*.py")}
    for path in MODULES:
        if path.name != "__init__.py" and path.parts[0] == "galaxy_batch":
            assert path.stem in tested, f"tests/test_{path.stem}.py is missing"


def test_the_lock_names_no_registry_and_agrees_with_the_pins() -> None:
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if line)
    assert all(re.fullmatch(r"[a-z0-9.\-]+==[0-9A-Za-z.+]+( ;.*)?", line) for line in lines if line)
    pins = re.findall(
        r'^    "([a-z0-9\-]+)(?:\[[a-z,]+\])?==([^"]+)",', (REPOSITORY / "pyproject.toml").read_text(), re.M
    )
    runtime = {name: version for name, version in pins if name in locked}
    assert {"ray", "torch", "timm", "pyarrow"} <= runtime.keys()
    assert {name: locked[name] for name in runtime} == runtime
