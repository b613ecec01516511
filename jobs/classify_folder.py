"""Classify a folder of cutouts with a model that ships, without a table or a config.

The folder may also be a glob (quote it), a zip, a tar, or a prefix of an object store. The ids are the file names
without their endings. The catalog and its page are written beside the folder, or where output_uri says. Run the same
command again to resume after an interruption.

Example:
    python -m jobs.classify_folder cutouts/
"""

import argparse
import logging
import os
import posixpath
import re
import sys
from typing import Any

from galaxy_batch.config import CatalogConfig
from galaxy_batch.settings import parse_config, resolve_uri
from jobs.arguments import CommandLine
from jobs.build_catalog import build_release
from jobs.command import run_job

__all__ = ["folder_config"]

logger = logging.getLogger("jobs")

_CHECKPOINT = "builtin:gz2-smooth-featured"
_ARCHIVE = re.compile(r"\.(zip|tar)$", re.IGNORECASE)


def classify_folder(arguments: argparse.Namespace) -> dict[str, Any]:
    """Classify the folder as `build_catalog` does; the last line of the log is the path of the page."""
    config = folder_config(arguments.folder, arguments.recursive, arguments.set)
    summary = build_release(config, arguments.dry_run)
    if summary.get("already_published") and summary["report_uri"]:  # a new page has been logged when it was written
        logger.info("release page: %s", summary["report_uri"])
    return summary


def folder_config(folder: str, recursive: bool, overrides: list[str]) -> CatalogConfig:
    """Settings of the catalog of a folder: named after it, and beside it where that is a local folder to write to.

    Raises:
        InputError: a setting is unknown or invalid.
    """
    from galaxy_batch.inputs.files import has_wildcards, manifest_folder
    from galaxy_batch.storage.files import join

    uri = resolve_uri(folder)
    place = manifest_folder(uri) if has_wildcards(uri) else uri.rstrip("/")
    name = _ARCHIVE.sub("", posixpath.basename(place))
    parent = posixpath.dirname(place)
    beside = "://" not in uri and os.access(parent, os.W_OK)
    release = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "cutouts"
    values = {
        "release": release,
        "output_uri": join(parent if beside else os.getcwd(), f"{release}_catalog"),
        "checkpoint_uri": _CHECKPOINT,
        "manifest": {"uri": uri, "recursive": recursive},
    }
    return parse_config(CatalogConfig, values, overrides)


if __name__ == "__main__":
    positionals = {"folder": "folder, glob, zip, tar or prefix of cutouts"}
    flags = {
        "recursive": "classify the cutouts in folders below as well",
        "dry-run": "check the inputs, classify a sample and estimate the run time, without writing anything",
    }
    line = CommandLine(__doc__, CatalogConfig, takes_config=False, positionals=positionals, flags=flags)
    sys.exit(run_job(line, classify_folder))
