"""Draw galaxies of a published catalog for people to look at, each with its reason and its inclusion probability.

Writes a folder beside the catalog with the drawn rows, their cutouts, and the page to look at them.

Example:
    python -m jobs.review_queue CATALOG --name first-look --flags LOW_CONFIDENCE,UNFAMILIAR --uniform 200
"""

import argparse
import sys
from typing import Any

from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.settings import load_config
from jobs.arguments import CommandLine, Shortcut
from jobs.command import run_job


def review_queue(arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw the galaxies, and write the queue."""
    config = load_config(ReviewQueueConfig, arguments.config, arguments.set)
    from galaxy_batch.review_queue.queue import queue_uri
    from galaxy_batch.review_queue.review_queue import make_queue
    from galaxy_batch.review_queue.serve import serve_queue

    summary = make_queue(config)
    if config.serve:
        serve_queue(queue_uri(config.catalog_uri, config.name), config.port)
    return summary


_SHORTCUTS = {
    "name": Shortcut(("NAME",), ("name",), "name of the queue; default: queue"),
    "flags": Shortcut(("A,B,…",), ("flags",), "draw galaxies with one of these review flags"),
    "where": Shortcut(("SQL",), ("where",), "draw galaxies for which this SQL condition is true"),
    "least-confident": Shortcut(("N",), ("least_confident",), "draw the N galaxies with the lowest confidence"),
    "uniform": Shortcut(("N",), ("uniform",), "draw N galaxies at random"),
    "per-class": Shortcut(("N",), ("per_class",), "draw N galaxies of each predicted class at random"),
    "optimal": Shortcut(("N",), ("optimal",), "draw about N galaxies to measure the accuracy most precisely"),
    "stratified": Shortcut(("N",), ("stratified",), "draw N galaxies of each class and range of confidence at random"),
    "audit": Shortcut((), ("audit",), "draw the galaxies with the flag AUDIT"),
    "zooniverse": Shortcut((), ("zooniverse",), "write a Zooniverse subject set"),
    "upload": Shortcut(("PROJECT",), ("upload",), "upload the subject set to the Zooniverse project with this number"),
    "label-studio": Shortcut((), ("label_studio",), "write Label Studio tasks"),
    "seed": Shortcut(("N",), ("seed",), "seed of all that is random; default: 0"),
    "attention": Shortcut((), ("attention",), "the page can show what the predicted class comes from"),
    "checkpoint": Shortcut(("FILE",), ("checkpoint_uri",), "the catalog's checkpoint, if it has moved"),
    "serve": Shortcut((), ("serve",), "serve the page on 127.0.0.1, and write its verdicts into the queue's folder"),
    "port": Shortcut(("N",), ("port",), "of the served page; default: 8642"),
    "max-rows": Shortcut(("N",), ("max_rows",), "largest number of galaxies; default: 5000"),
}

if __name__ == "__main__":
    line = CommandLine(__doc__, ReviewQueueConfig, places={"catalog_uri": "CATALOG"}, shortcuts=_SHORTCUTS)
    sys.exit(run_job(line, review_queue))
