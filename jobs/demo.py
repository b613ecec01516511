"""Demonstrate the whole pipeline on a simulated survey: train, classify, publish, verify, query.

Needs nothing but this checkout.

Example:
    python -m jobs.demo --set galaxies=200 --set output_uri=demo_output
"""

import argparse
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from galaxy_batch.config import CatalogConfig, ManifestConfig, RuntimeConfig
from galaxy_batch.settings import Range, Uri, parse_config, resolve_uri
from jobs.arguments import CommandLine
from jobs.command import ray_session, run_job
from train.config import FitConfig, NetworkConfig, Phase, SplitConfig, TrainConfig

if TYPE_CHECKING:
    from galaxy_batch.synthetic.survey import SurveyFiles

logger = logging.getLogger("jobs.demo")

_RENDER_BATCH = 50


@dataclass(frozen=True)
class DemoConfig:
    """Settings of the demo."""

    output_uri: Annotated[str, Uri] = resolve_uri("demo_output")
    """Local folder for the simulated surveys, the checkpoint and the catalog."""
    galaxies: Annotated[int, Range(60, 100_000)] = 600
    """Number of galaxies to classify. Twice as many, with votes, are simulated for training."""
    epochs: Annotated[int, Range(0, 1000)] = 20
    """Passes over the training galaxies."""
    seed: Annotated[int, Range(0, 2**31 - 2)] = 1
    """Seed of the simulated surveys and the training."""


def demo(arguments: argparse.Namespace) -> dict[str, Any]:
    """Simulate two surveys, train on the first, classify the second."""
    started = time.monotonic()
    config = parse_config(DemoConfig, {}, arguments.set)
    from galaxy_batch.pipeline import classify_release
    from galaxy_batch.plan import plan_release
    from galaxy_batch.synthetic.survey import ONE_OF_EACH_DEFECT
    from train.run import train_model

    folder = Path(config.output_uri)
    with ray_session(RuntimeConfig()):
        voted = _render(folder / "voted_survey", config.galaxies * 2, config.seed, {})
        release = _render(folder / "release", config.galaxies, config.seed + 1, ONE_OF_EACH_DEFECT)
        trained = train_model(_training(voted, folder, config))
        plan = plan_release(_catalog(release, folder, trained["checkpoint_uri"]))
        summary = classify_release(plan)
    _show(summary, trained)
    return {**summary, "accuracy": trained["accuracy"], "seconds": round(time.monotonic() - started, 3)}


def _render(folder: Path, galaxies: int, seed: int, defects: Mapping[str, int]) -> "SurveyFiles":
    """Simulate a survey, on all CPUs."""
    import ray

    from galaxy_batch.synthetic.survey import write_images, write_tables

    logger.info("rendering %d galaxies into %s", galaxies, folder)
    files = write_tables(folder, galaxies, seed, defects=defects, without_position=galaxies // 50)
    render = ray.remote(write_images).options(num_cpus=1)
    tasks = [
        render.remote(folder, galaxies, seed, defects=defects, start=start, stop=start + _RENDER_BATCH)
        for start in range(0, galaxies, _RENDER_BATCH)
    ]
    ray.get(tasks)
    return files


def _training(voted: "SurveyFiles", folder: Path, config: DemoConfig) -> TrainConfig:
    """Fast settings for a laptop, with timm's smallest EfficientNet; too weak for a real catalog."""
    return TrainConfig(
        output_uri=str(folder / "model"),
        galaxies=ManifestConfig(uri=str(voted.votes), id_column="GalaxyID", uri_template="images/{GalaxyID}.jpg"),
        network=NetworkConfig(architecture="test_efficientnet", weights="random", size_px=64, crop_fraction=0.7),
        fit=FitConfig(
            head=Phase(epochs=0, learning_rate=1e-3),
            blocks=Phase(epochs=config.epochs, learning_rate=3e-3, blocks=99),
            schedule="cosine",
            batch_norm="train",
            averaging=0.98,
            seed=config.seed,
        ),
        split=SplitConfig(calibration_fraction=0.2),
        review_accuracy=0.9,
    )


def _catalog(release: "SurveyFiles", folder: Path, checkpoint_uri: str) -> CatalogConfig:
    return parse_config(
        CatalogConfig,
        {
            "release": "demo",
            "output_uri": str(folder / "catalogs"),
            "checkpoint_uri": checkpoint_uri,
            "overwrite": True,
            "max_failed_fraction": 0.2,  # the simulated survey has defects
            "manifest": {
                "uri": str(release.manifest),
                "ra_column": "ra",
                "dec_column": "dec",
                "uri_template": "images/{object_id}.jpg",
            },
            "classify": {"chunk_rows": 100},
            "runtime": {"progress_every_s": 1.0},
        },
    )


def _show(summary: dict[str, Any], trained: dict[str, Any]) -> None:
    """Print paths, counts and a query to paste."""
    rows = [(f"class {name}", count) for name, count in summary["class_counts"].items()]
    rows += [("no class (unreadable)", summary["failed"])]
    rows += [(f"flag {name}", count) for name, count in summary["flag_counts"].items() if count]
    files = f"{summary['catalog_uri']}/**/*.parquet"
    query = (
        "SELECT predicted_class, count(*) AS galaxies, avg(confidence) AS mean_confidence "  # noqa: S608 - our own path
        f"FROM '{files}' GROUP BY predicted_class ORDER BY galaxies DESC"
    )
    print(f"\ncatalog: {summary['catalog_uri']}")
    print(f"page of the release: {summary['report_uri']}")
    print(f"checkpoint: {trained['checkpoint_uri']} (held-out accuracy {trained['accuracy']:.1%})\n")
    print(f"{'':24}galaxies")
    for name, count in [*rows, ("all", summary["rows"])]:
        print(f"{name:<24}{count:>8,}")
    print(f'\nquery it:\n\nuv run python -c "import duckdb; print(duckdb.sql(\\"{query}\\"))"\n')


if __name__ == "__main__":
    sys.exit(run_job(CommandLine(__doc__, DemoConfig, takes_config=False), demo))
