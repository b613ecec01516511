"""The tiles of which objects could not be cut: each is named once, with how many objects."""

import logging
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["bad_tiles"]

logger = logging.getLogger(__name__)

_OF_A_TILE = re.compile(r"(red|green|blue) band of ")  # begins the error of a row whose tile is bad, see `cutouts`
_NAMED = 100  # in the log and in the summary


def bad_tiles(failures: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    """Log the bad tiles, and describe them for the summary: `status`, `error`, `objects`; the worst 100.

    Args:
        failures: rows by status and error.
    """
    bad = [(rows, status, error) for (status, error), rows in failures.items() if _OF_A_TILE.match(error)]
    bad.sort(key=lambda tile: (-tile[0], tile[2]))
    for rows, status, error in bad[:_NAMED]:
        logger.warning("%s objects are %s: %s", f"{rows:,}", status, error)
    if len(bad) > _NAMED:
        rest = sum(rows for rows, _, _ in bad[_NAMED:])
        logger.warning("%s objects of %s further bad tiles", f"{rest:,}", f"{len(bad) - _NAMED:,}")
    return [{"status": status, "error": error, "objects": rows} for rows, status, error in bad[:_NAMED]]
