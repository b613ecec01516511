"""The command of an installed package."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from galaxy_batch import console
from tests.support.repository import REPOSITORY


def call(folder: Path, *words: str, path: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """`galaxy-batch WORDS` in a folder, with the package from `path`."""
    script = "import sys; from galaxy_batch.console import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(path), "RAY_TMPDIR": os.environ.get("RAY_TMPDIR", "/tmp")}
    command = [sys.executable, "-P", "-c", script, *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


def test_the_command_lists_jobs_and_configs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["galaxy-batch", *words])
        return console.main(), capsys.readouterr().out

    assert console.jobs_folder() == REPOSITORY
    code, text = said("--help")
    assert code == 0
    assert "  build-catalog\n      Classify the cutouts of a survey and publish the catalog.\n" in text
    assert "  benchmark\n      Measure" in text
    assert "command" not in [line.strip() for line in text.splitlines()]
    assert "sdss_dr7: Classifies SDSS DR7 cutouts" in said("configs")[1]
    assert said("configs", "sdss_dr7") == (0, (REPOSITORY / "jobs" / "configs" / "sdss_dr7.toml").read_text())
    assert said("configs", "nope")[0] == said("nope")[0] == 2


def test_a_job_runs_by_the_command(tmp_path: Path) -> None:
    ended = call(tmp_path, "verify-catalog", "nowhere")
    assert ended.returncode == 3, ended.stderr
    assert "no manifest.json" in ended.stderr
    ended = call(tmp_path, "verify-catalog", "--help")
    assert ended.stdout.startswith("usage: galaxy-batch verify-catalog CATALOG_URI [options]\n"), ended.stdout
    assert "    galaxy-batch verify-catalog " in ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_the_wheel_adds_one_name_and_runs_its_jobs(tmp_path: Path) -> None:
    """Builds the wheel, for which uv may fetch hatchling, and runs the demo from the unpacked files alone."""
    build = ["uv", "build", "--wheel", "--out-dir", str(tmp_path / "dist"), str(REPOSITORY)]
    if (made := subprocess.run(build, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"the wheel cannot be built here: {made.stderr[-300:]}")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
        assert (
            "galaxy-batch = galaxy_batch.console:main"
            in archive.read(next(name for name in archive.namelist() if name.endswith("entry_points.txt"))).decode()
        )
    assert {one.name for one in installed.iterdir() if not one.name.endswith(".dist-info")} == {"galaxy_batch"}
    assert (installed / "galaxy_batch" / "_commands" / "jobs" / "configs" / "sdss_dr7.toml").is_file()
    ended = call(empty, "demo", "--set", "galaxies=60", "--set", "epochs=1", path=installed)
    assert ended.returncode == 0, ended.stderr
    assert str(REPOSITORY) not in ended.stderr
