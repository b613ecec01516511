"""Share a published catalog: to a folder, an object store or the Hugging Face hub, described for other people.

Copies the catalog and its checkpoint, with a dataset card, a model card, CITATION.cff, .zenodo.json and Croissant
metadata, and verifies the copies. The same command again continues what was interrupted.

Example:
    python -m jobs.share_catalog CATALOG --to hf://datasets/OWNER/NAME
"""

import argparse
import logging
import sys
from typing import Any

from galaxy_batch.settings import load_config
from galaxy_batch.sharing.config import ShareConfig
from jobs.arguments import CommandLine, Shortcut
from jobs.command import run_job


def share(arguments: argparse.Namespace) -> dict[str, Any]:
    """Copy the catalog, and what describes it."""
    config = load_config(ShareConfig, arguments.config, arguments.set)
    from galaxy_batch.sharing.share import share_catalog

    logging.getLogger("httpx2").setLevel(logging.WARNING)  # huggingface_hub's client logs every request
    return share_catalog(config)


_SHORTCUTS = {
    "to": Shortcut(("URI",), ("to_uri",), "a new or empty folder or prefix, or hf://datasets/OWNER/NAME"),
    "checkpoint": Shortcut(("FILE",), ("checkpoint_uri",), "its checkpoint, where that has moved since then"),
}

if __name__ == "__main__":
    line = CommandLine(__doc__, ShareConfig, places={"catalog_uri": "CATALOG"}, shortcuts=_SHORTCUTS)
    sys.exit(run_job(line, share))
