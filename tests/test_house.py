"""Structure of the code: allowed imports, declared public names, imports without side effects, mirrored tests."""

import ast
import functools
import graphlib
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY

MODULES = sorted(
    path.relative_to(REPOSITORY)
    for folder in ("galaxy_batch", "train", "jobs")
    for path in (REPOSITORY / folder).rglob("*.py")
)
# What each folder (or module) of the package imports of the package, beside itself. An import that is not in this table
# is a new dependency: add it here on purpose, or place the code elsewhere. Only pipeline, dry_run and packing combine
# the stages.
IMPORTS: dict[str, set[str]] = {
    "errors": set(),
    "ids": set(),
    "fits_format": set(),
    "embeddings": set(),
    "decision_tree": {"errors"},
    "stats": set(),
    "rows": {"review", "decision_tree"},
    "failures": {"rows"},
    "missing": {"catalog", "config", "cutouts", "failures", "inputs", "plan", "rows", "runtime", "tiles"},
    "settings": {"errors"},
    "config": {"errors", "fits_format", "links", "settings"},
    "links": {"errors"},
    "storage": {"errors"},
    "checkpoints": {"errors", "storage"},
    "sky": {"ids", "settings"},
    "inputs": {"config", "errors", "fits_format", "ids", "rows", "sky", "storage"},
    "cutouts": {"config", "errors", "fits_format", "rows", "storage"},
    "model": {"checkpoints", "config", "cutouts", "embeddings", "errors", "rows", "storage", "decision_tree"},
    "tiles": {"config", "cutouts", "errors", "fits_format", "inputs", "rows", "sky", "storage"},
    "review": {"config", "settings"},
    "catalog": {
        "config", "embeddings", "errors", "ids", "review", "rows", "runtime", "settings", "sky", "storage",
        "decision_tree",
    },
    "reuse": {"catalog", "config", "embeddings", "errors", "ids", "inputs", "review", "rows", "runtime", "storage"},
    "runtime": {"config", "errors", "model", "rows"},
    "report": {"catalog", "config", "cutouts", "errors", "inputs", "rows", "settings", "sky", "storage", "tiles"},
    "release_page": {
        "catalog", "config", "cutouts", "decision_tree", "errors", "links", "model", "report", "rows", "runtime", "sky",
        "stats", "storage",
    },
    "compare": {
        "catalog", "decision_tree", "errors", "links", "report", "rows", "runtime", "settings", "sky", "stats",
        "storage",
    },
    "export": {"catalog", "errors", "settings", "sky", "storage", "reviewed_objects"},
    "reviewed_objects": {"errors", "storage"},
    "verdicts": {"catalog", "errors", "review_queue", "reviewed_objects", "settings", "storage"},
    "similar": {
        "catalog", "config", "embeddings", "errors", "export", "links", "model", "release_page", "report", "rows",
        "settings", "storage",
    },
    "review_queue": {
        "catalog", "config", "cutouts", "errors", "export", "inputs", "links", "model", "release_page", "report",
        "rows", "runtime", "settings", "storage", "tiles",
    },
    "audit": {
        "catalog", "compare", "errors", "report", "review_queue", "reviewed_objects", "rows", "runtime", "settings",
        "stats", "storage",
    },
    "sharing": {
        "audit", "catalog", "checkpoints", "errors", "model", "report", "rows", "runtime", "settings", "stats",
        "storage",
    },
    "packing": {"config", "errors", "failures", "inputs", "rows", "runtime", "settings", "storage", "tiles"},
    "synthetic": set(),
    "plan": {
        "catalog", "config", "errors", "inputs", "model", "reuse", "review", "rows", "runtime", "storage", "tiles",
    },
    "dry_run": {"catalog", "errors", "failures", "inputs", "model", "plan", "review", "rows", "runtime", "tiles"},
    "run_record": {"catalog", "errors", "plan", "runtime", "storage"},
    "console": set(),
    "classification": {"config", "inputs", "model", "plan", "review", "rows", "settings", "tiles"},
    "ray_run": {"inputs", "plan", "runtime"},
    "local_run": {"model", "plan", "runtime"},
    "pipeline": {
        "catalog", "errors", "failures", "inputs", "local_run", "missing", "plan", "ray_run", "release_page", "reuse",
        "review", "run_record", "runtime", "storage", "tiles",
    },
}  # fmt: skip


# Modules that are tested in a file with another name.
TESTED_IN = {
    "galaxy_batch/audit/config.py": "tests/audit/test_audit.py",
    "galaxy_batch/audit/figures.py": "tests/audit/test_page.py",
    "galaxy_batch/audit/result.py": "tests/audit/test_page.py",
    "galaxy_batch/catalog/verify_metadata.py": "tests/catalog/test_verify.py",
    "galaxy_batch/classification.py": "tests/test_pipeline.py",
    "galaxy_batch/missing.py": "tests/test_pipeline.py",
    "galaxy_batch/compare/config.py": "tests/compare/test_compare.py",
    "galaxy_batch/ray_run.py": "tests/test_pipeline.py",
    "galaxy_batch/runtime/cluster.py": "tests/runtime/test_workers.py",
    "galaxy_batch/runtime/model_actor.py": "tests/runtime/test_isolation.py",
    "galaxy_batch/runtime/network.py": "tests/test_pipeline.py",
    "galaxy_batch/runtime/stages.py": "tests/test_pipeline.py",
    "galaxy_batch/model/engines/conversion.py": "tests/model/engines/test_openvino.py",
    "galaxy_batch/model/spec.py": "tests/model/test_checkpoint.py",
    "galaxy_batch/compare/figures.py": "tests/compare/test_page.py",
    "galaxy_batch/compare/series_figures.py": "tests/compare/test_series_page.py",
    "galaxy_batch/export/config.py": "tests/export/test_export.py",
    "galaxy_batch/export/selection.py": "tests/export/test_export.py",
    "galaxy_batch/packing/config.py": "tests/packing/test_shards.py",
    "galaxy_batch/review_queue/zooniverse_api.py": "tests/review_queue/test_zooniverse_upload.py",
    "galaxy_batch/review_queue/config.py": "tests/review_queue/test_review_queue.py",
    "galaxy_batch/release_page/sheets.py": "tests/release_page/test_page.py",
    "galaxy_batch/similar/config.py": "tests/similar/test_similar.py",
    "galaxy_batch/verdicts/acceptance.py": "tests/verdicts/test_import_verdicts.py",
    "galaxy_batch/verdicts/config.py": "tests/verdicts/test_import_verdicts.py",
    "train/config.py": "tests/train/test_run.py",
    "train/data/galaxies.py": "tests/train/test_run.py",
    "train/evaluate/familiarity.py": "tests/model/test_familiarity.py",
    "train/evaluate/grad_cam_metrics.py": "tests/train/evaluate/test_grad_cam.py",
    "train/evaluate/metrics.py": "tests/train/report/test_report.py",
    "train/evaluate/results.py": "tests/train/report/test_report.py",
    "train/fit/phases.py": "tests/train/fit/test_fit.py",
    "train/report/grad_cam_section.py": "tests/train/report/test_report.py",
    "train/report/held_out.py": "tests/train/report/test_report.py",
    "train/report/review_section.py": "tests/train/evaluate/test_review_ranking.py",
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse((REPOSITORY / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module}
    return {name for name in names if name.split(".")[0] in ("galaxy_batch", "train", "jobs", "tests")}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_jobs_import_train_and_train_imports_galaxy_batch(path: Path) -> None:
    allowed = {
        "galaxy_batch": {"galaxy_batch"},
        "train": {"galaxy_batch", "train"},
        "jobs": {"galaxy_batch", "train", "jobs"},
    }
    assert {name.split(".")[0] for name in imports(path)} <= allowed[path.parts[0]]


def folder_of(path: Path) -> str:
    """Folder or module of the package that a file belongs to."""
    return Path(path.parts[1]).stem


def test_folders_import_what_the_table_says() -> None:
    used: dict[str, set[str]] = {}
    for path in MODULES:
        if path.parts[0] == "galaxy_batch" and path.parts[1] != "__init__.py":
            names = {name.split(".")[1] for name in imports(path) if name.startswith("galaxy_batch.")}
            used.setdefault(folder_of(path), set()).update(names - {folder_of(path)})
    assert used == IMPORTS
    graphlib.TopologicalSorter(IMPORTS).prepare()  # raises CycleError, which names the cycle


def test_the_readme_says_what_is_in_each_folder() -> None:
    table = (
        (REPOSITORY / "galaxy_batch" / "README.md")
        .read_text()
        .partition("| folder of `galaxy_batch` |")[2]
        .partition("\n\n")[0]
    )
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == {path.parts[1] for path in MODULES if path.parts[0] == "galaxy_batch" and len(path.parts) > 2}


@functools.cache
def names_imported_from() -> dict[str, set[str]]:
    """The names that modules import from others, by the module that has them."""
    names: dict[str, set[str]] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse((REPOSITORY / path).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names.setdefault(node.module, set()).update(alias.name for alias in node.names)
    return names


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
    used_elsewhere = names_imported_from().get(module.__name__, set())
    assert used_elsewhere & defined <= set(module.__all__), "imported elsewhere, but not in __all__"


def test_imports_start_neither_ray_nor_logging() -> None:
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


def test_plan_and_workers_load_neither_torch_nor_matplotlib() -> None:
    """torch costs each worker 300 MB and seconds of CPU time; only the conversion of a network needs it."""
    names = [
        f"galaxy_batch.{name}"
        for name in (
            "inputs.manifest",
            "cutouts.fetch",
            "review.flags",
            "catalog.parts",
            "packing.shards",
            "catalog.publish",
            "plan",
            "pipeline",
            "model.engines.openvino",
        )
    ]
    script = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
assert not {"torch", "matplotlib"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=120)


def test_a_run_of_one_chunk_loads_no_ray() -> None:
    script = """
import sys
import galaxy_batch.dry_run, galaxy_batch.local_run, galaxy_batch.pipeline, jobs.build_catalog
assert "ray" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=120)


def test_a_command_line_is_parsed_without_large_packages() -> None:
    """`--help` and a bad config are answered at once: what a job runs is imported once its config is valid."""
    names = [path.stem for path in MODULES if path.parts[0] == "jobs" and "run_job(" in (REPOSITORY / path).read_text()]
    names = [f"jobs.{name}" for name in names if name not in ("__main__", "command", "submit")]
    assert len(names) > 7
    script = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
assert not {{"ray", "torch", "pyarrow", "pandas", "scipy", "astropy"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=120)


def test_tests_mirror_the_package() -> None:
    """`galaxy_batch/sky/cone.py` is tested by `tests/sky/test_cone.py`."""
    for path in MODULES:
        if path.name in ("__init__.py", "__main__.py") or path.parts[0] == "jobs":
            continue
        folder = Path(*path.parts[1:-1]) if path.parts[0] == "galaxy_batch" else path.parent
        test = Path("tests") / folder / f"test_{path.stem}.py"
        assert (REPOSITORY / TESTED_IN.get(str(path), test)).is_file(), f"{test} is missing"


def test_no_test_module_imports_another() -> None:
    """What tests share is in tests/support."""
    for path in (REPOSITORY / "tests").rglob("*.py"):
        modules = {name.rpartition(".")[2] for name in imports(path) if name.startswith("tests.")}
        assert not {name for name in modules if name.startswith("test_") or name == "conftest"}, path


def test_the_prose_is_plain() -> None:
    """Old or vague phrases that code, documents and configs avoid; each is written here in two pieces."""
    pieces = [("so ", "many"), ("an", "ew"), ("for ", "ever"), ("put up ", "with"), ("becomes? ", "of"),
              ("became ", "of"), ("is taken ", "for")]  # fmt: skip
    phrases = re.compile("|".join(first + second for first, second in pieces), re.IGNORECASE)
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    files = [line for line in listed.splitlines() if line.endswith((".py", ".md", ".toml", ".yaml", ".yml", ".html"))]
    assert len(files) > 200
    offending = {file: phrases.findall((REPOSITORY / file).read_text()) for file in files}
    assert not {file: words for file, words in offending.items() if words}
