"""Root folder of the project."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
