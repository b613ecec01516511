"""Output files of a job and their modification times."""

from pathlib import Path


def shard_files(output: Path) -> list[Path]:
    return sorted((output / "shards").glob("*.parquet"))


def mtimes(files: list[Path]) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in files}
