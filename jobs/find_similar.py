"""Find the galaxies of a published catalog whose cutouts look like given ones.

The catalog must have embeddings (classify.embedding). Writes a page with the cutouts, and a table.

Example:
    python -m jobs.find_similar CATALOG --ids 588017703996096547,587738569780428805 --k 20 --to similar.csv
"""

import argparse
import sys
from typing import Any

from galaxy_batch.settings import load_config
from galaxy_batch.similar.config import SimilarConfig
from jobs.arguments import CommandLine, Shortcut
from jobs.command import run_job


def find_similar(arguments: argparse.Namespace) -> dict[str, Any]:
    """Search the catalog, and write the table and the page."""
    config = load_config(SimilarConfig, arguments.config, arguments.set)
    from galaxy_batch.similar import similar

    return similar.find_similar(config)


_SHORTCUTS = {
    "ids": Shortcut(("A,B,…",), ("ids",), "objects of the catalog to find similar ones of"),
    "image": Shortcut(("FILE",), ("image_uri",), "cutout to find similar ones of, in place of --ids"),
    "k": Shortcut(("N",), ("k",), "number of similar galaxies of each one; default: 10"),
    "to": Shortcut(("FILE",), ("output_uri",), "table: .parquet, .csv, .fits or .vot (VOTable); default: none"),
    "page": Shortcut(("FOLDER",), ("report_uri",), "folder of the page; default: `similar` beside the catalog"),
    "checkpoint": Shortcut(("FILE",), ("checkpoint_uri",), "the catalog's checkpoint, if it has moved; for --image"),
}

if __name__ == "__main__":
    line = CommandLine(__doc__, SimilarConfig, places={"catalog_uri": "CATALOG"}, shortcuts=_SHORTCUTS)
    sys.exit(run_job(line, find_similar))
