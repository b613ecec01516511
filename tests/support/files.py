"""Files that a job has left, and whether they were written again."""

from pathlib import Path


def shard_files(output: Path) -> list[Path]:
    return sorted((output / "shards").glob("*.parquet"))


def mtimes(files: list[Path]) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in files}
