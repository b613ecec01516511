"""Output files of a job, their contents and modification times."""

from pathlib import Path


def shard_files(output: Path) -> list[Path]:
    return sorted((output / "shards").glob("*.parquet"))


def mtimes(files: list[Path]) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in files}


def contents_of(folder: Path) -> dict[str, bytes]:
    """Contents of all finished files of a folder, by path."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".tmp-"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}
