"""What Ray would upload of a working directory is known before anything is sent."""

import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

from galaxy_batch.errors import InputError
from jobs import upload
from jobs.upload import NOT_UPLOADED, check_upload_size, is_uploaded


@pytest.mark.parametrize("honours_git", [True, False])
def test_is_uploaded_agrees_with_ray(honours_git: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0" if honours_git else "1")
    folder = tmp_path / "checkout"
    files = [
        "a.toml", "secret.toml", "jobs/configs/b.toml", "jobs/configs/mine.toml", "runs/c.toml", "kept/tests/d.toml",
        "tests/e.toml", "cluster/f.toml", ".git/g.toml", "big/h.toml", "odd name/é.toml",
    ]  # fmt: skip
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / ".gitignore").write_text("secret.toml\n/runs/\n")
    (folder / "jobs" / ".gitignore").write_text("mine.toml\n")
    (folder / ".rayignore").write_text("big\n")
    package = tmp_path / "package.zip"
    excludes = NOT_UPLOADED
    create_package(str(folder), package, include_gitignore=honours_git, excludes=excludes)
    uploaded = set(zipfile.ZipFile(package).namelist())
    for name in files:
        assert is_uploaded(folder / name, folder) == (name in uploaded), name
    assert ("secret.toml" in uploaded) != honours_git
    assert {"a.toml", "jobs/configs/b.toml", "kept/tests/d.toml"} <= uploaded
    assert not {"tests/e.toml", ".git/g.toml", "big/h.toml"} & uploaded


def test_the_size_agrees_with_the_archive_of_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkout"
    for number in range(50):
        file = folder / f"data/images/{number % 3}/é{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1000 + number))
    (folder / "code.py").write_text("x")
    package = tmp_path / "package.zip"
    create_package(str(folder), package, include_gitignore=True, excludes=NOT_UPLOADED)
    size = package.stat().st_size
    monkeypatch.setattr(upload, "_MAX_BYTES", size + 200)
    check_upload_size(folder)
    monkeypatch.setattr(upload, "_MAX_BYTES", size - 1000)
    with pytest.raises(InputError, match=r"Largest folder: /data/images/ .* with a line /data/images/ in .rayignore"):
        check_upload_size(folder)
    (folder / ".rayignore").write_text("/data/images/\n")
    check_upload_size(folder)
    (folder / "m.safetensors").write_bytes(bytes(size))
    with pytest.raises(InputError, match=r"Largest file: /m\.safetensors"):
        check_upload_size(folder)
