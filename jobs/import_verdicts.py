"""Import the verdicts of people on the galaxies of a published catalog, and merge those of several people.

Reads the CSV of the review page, Zooniverse classification exports and Label Studio's JSON. The catalog stays as it is.

Example:
    python -m jobs.import_verdicts CATALOG --from verdicts.csv,classifications.csv --queue first-look
"""

import argparse
import sys
from typing import Any

from galaxy_batch.settings import load_config
from galaxy_batch.verdicts.config import ImportConfig
from jobs.arguments import CommandLine, Shortcut
from jobs.command import run_job


def import_verdicts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Import the files, and write the tables."""
    config = load_config(ImportConfig, arguments.config, arguments.set)
    from galaxy_batch.verdicts import import_verdicts as walk

    return walk.import_verdicts(config)


_SHORTCUTS = {
    "from": Shortcut(("FILE[,FILE…]",), ("files",), "files with verdicts, all at once"),
    "name": Shortcut(("NAME",), ("name",), "name of the tables; default: verdicts"),
    "queue": Shortcut(("NAME",), ("queue",), "review queue of the verdicts, where the files do not say"),
    "task": Shortcut(("TASK",), ("task",), "task or control whose answer is the verdict"),
    "merge": Shortcut(("METHOD",), ("merge",), "auto, majority or dawid_skene; default: auto"),
}

if __name__ == "__main__":
    line = CommandLine(__doc__, ImportConfig, places={"catalog_uri": "CATALOG"}, shortcuts=_SHORTCUTS)
    sys.exit(run_job(line, import_verdicts))
