"""Ceilings and end-to-end rate of a catalog job in one run, on this machine and these cutouts."""

import argparse
import dataclasses
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from galaxy_batch.catalog.layout import write_json
from galaxy_batch.config import CatalogConfig, ManifestConfig, RuntimeConfig
from galaxy_batch.inputs.manifest import read_objects
from galaxy_batch.model.checkpoint import Checkpoint, agreement, load_checkpoint, save_checkpoint
from galaxy_batch.model.engines.choose import choose_engine, make_engine
from galaxy_batch.model.engines.engine import BATCH_SIZES, EngineName, Precision
from galaxy_batch.model.network import RANDOM, ModelSpec, build_model
from galaxy_batch.rows import IMAGE_BYTES, IMAGE_URI
from galaxy_batch.settings import Range, Uri, load_config
from galaxy_batch.storage.files import join, write_atomically
from galaxy_batch.synthetic.survey import write_survey
from jobs.benchmark.memory import watch
from jobs.benchmark.stage_rates import decode_rate, engine_probabilities, engine_rate, prepared_batches, read_rate
from jobs.benchmark.tables import plain_loop_rate, rates_chart, rates_table
from jobs.command import run_job

logger = logging.getLogger("jobs.benchmark.__main__")

_BUSY = 0.3  # load of each core above which numbers cannot be trusted
_CEILING_ROWS = 4000  # enough for a rate
_AGREEMENT_CUTOUTS = 512


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is measured, and how long."""

    output_uri: Annotated[str, Uri]
    """Folder that gets `benchmark.json`, `benchmark.md` and `benchmark.png`; catalogs go to a temporary folder."""
    manifest: ManifestConfig | None = None
    """The cutouts; a small synthetic survey when not given."""
    checkpoint_uri: Annotated[str, Uri] | None = None
    """The model; EfficientNet-B0 with random weights when not given, which is as fast as a trained one."""
    architecture: str = "efficientnet_b0"
    """Of the random model."""
    size_px: Annotated[int, Range(32, 1024)] = 224
    """Of the random model."""
    crop_fraction: Annotated[float, Range(0.1, 1)] = 1.0
    """Of the random model."""
    rows: Annotated[int, Range(16)] = 4000
    """Cutouts of the whole job; the manifest's are repeated where there are fewer."""
    seconds: Annotated[float, Range(0.1, 600)] = 5.0
    """How long each ceiling of the model is measured."""
    runs: Annotated[int, Range(1, 100)] = 2
    """Runs of the whole job: the first is cold, as far as this machine's caches are."""
    chunk_rows: Annotated[int, Range(1, 1_000_000)] = 256
    """Rows per chunk of the job."""
    plain_loop: bool = True
    """Whether to measure timm's own loop over the same files too."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """As for a catalog."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    """As for a catalog."""


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the ceilings, then the job; write JSON, a table and a plot."""
    config = load_config(BenchmarkConfig, arguments.config, arguments.set)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if load > _BUSY:
        logger.warning("the machine is busy (load %.2f per core): these numbers are too low", load)
    with tempfile.TemporaryDirectory(prefix="gb-") as folder:
        objects = _objects(config, Path(folder))
        checkpoint_uri = config.checkpoint_uri or _random_checkpoint(config, Path(folder))
        ceilings, against_torch = _ceilings(config, checkpoint_uri, objects)
        runs = [_whole_job(config, checkpoint_uri, objects, Path(folder), n) for n in range(config.runs)]
    result = _result(config, load, ceilings, against_torch, runs)
    write_json(join(config.output_uri, "benchmark.json"), result)
    table = rates_table(result)
    write_atomically(join(config.output_uri, "benchmark.md"), table.encode())
    write_atomically(join(config.output_uri, "benchmark.png"), rates_chart(result))
    logger.info("\n%s", table)
    return result


def _objects(config: BenchmarkConfig, folder: Path) -> pa.Table:
    """`rows` objects with their cutouts' locations or bytes, under new ids."""
    if config.manifest is None:
        survey = write_survey(folder / "survey", galaxies=min(config.rows, 400), seed=1)
        manifest = ManifestConfig(uri=str(survey.manifest), uri_template="images/{object_id}.jpg")
    else:
        manifest = config.manifest
    found = read_objects(dataclasses.replace(manifest, keep_columns=()))
    rows = found.take(pa.array([row % len(found) for row in range(config.rows)]))
    return rows.set_column(0, "object_id", pa.array(range(config.rows), pa.int64()))


def _random_checkpoint(config: BenchmarkConfig, folder: Path) -> str:
    spec = ModelSpec(
        config.architecture, ("smooth", "featured"), config.size_px, config.crop_fraction, (0.5,) * 3, (0.25,) * 3
    )
    torch.manual_seed(0)
    uri = str(folder / "random.safetensors")
    about = Checkpoint(spec, temperature=1.0, min_confidence=0.6, label_rule={}, accuracy=0.5, ece=0.5)
    save_checkpoint(uri, about, build_model(spec, RANDOM))
    return uri


def _ceilings(
    config: BenchmarkConfig, checkpoint_uri: str, objects: pa.Table
) -> tuple[dict[str, float], dict[str, float]]:
    """Cutouts per second of each step alone, with all cores of this machine, and its GPU; what the engine changes."""
    checkpoint, model = load_checkpoint(checkpoint_uri)
    cores = config.runtime.num_cpus or os.cpu_count() or 1
    classify = CatalogConfig("benchmark", "-", "-", ManifestConfig("-", image_column="-")).classify
    objects = objects.slice(0, _CEILING_ROWS)
    rates: dict[str, float] = {}
    rates["read, first time"], contents = read_rate(objects, classify, config.chunk_rows)
    rates["read, again"], _ = read_rate(objects, classify, config.chunk_rows)
    for threads in sorted({2**n for n in range(cores.bit_length()) if 2**n <= cores} | {cores}):
        rates[f"decode, {threads} threads"] = decode_rate(contents[:2000], checkpoint.spec, classify, threads)
    gpu = torch.cuda.is_available() and config.runtime.device != "cpu"
    name: EngineName = "cuda" if gpu else choose_engine() if config.runtime.engine == "auto" else config.runtime.engine
    batch_size = config.runtime.batch_size or BATCH_SIZES[name]
    batches = prepared_batches(contents, checkpoint.spec, classify, batch_size, max(8, 64 // batch_size))
    precision: Precision = "bf16" if checkpoint.bf16_agrees else "fp32"
    if config.precision != "auto":
        precision = config.precision
    sample = prepared_batches(contents, checkpoint.spec, classify, batch_size, -(-_AGREEMENT_CUTOUTS // batch_size))
    plain = make_engine("torch", model, "fp32", BATCH_SIZES["torch"], cores)
    expected = engine_probabilities(plain, sample, checkpoint.temperature)
    engine = make_engine(name, model, precision, batch_size, cores)
    against_torch = agreement(engine_probabilities(engine, sample, checkpoint.temperature), expected)
    rates[f"model ({name}, {precision})"] = engine_rate(engine, batches, config.seconds, transfer=False)
    rates["model with transfer"] = engine_rate(engine, batches, config.seconds, transfer=True)
    if config.plain_loop and IMAGE_URI in objects.column_names:
        files = objects[IMAGE_URI].drop_null().to_pylist()
        rates["timm's own loop"] = plain_loop_rate(files[: min(len(files), 1500)], checkpoint.spec, cores, gpu)
    return {name: round(rate, 1) for name, rate in rates.items()}, against_torch


def _whole_job(
    config: BenchmarkConfig, checkpoint_uri: str, objects: pa.Table, folder: Path, number: int
) -> dict[str, Any]:
    """`jobs.build_catalog` as a user starts it, in a process of its own, with its memory watched."""
    manifest = folder / "manifest.parquet"
    if not manifest.exists():
        pq.write_table(objects.select(["object_id", "ra", "dec", objects.column_names[-1]]), manifest)
    column = IMAGE_URI if IMAGE_URI in objects.column_names else IMAGE_BYTES
    settings = {
        "release": f"run-{number}",
        "output_uri": str(folder / "catalogs"),
        "checkpoint_uri": checkpoint_uri,
        "max_failed_fraction": 1.0,
        "manifest.uri": str(manifest),
        "manifest.image_column": column,
        "manifest.ra_column": "ra",
        "manifest.dec_column": "dec",
        "classify.chunk_rows": config.chunk_rows,
        "classify.precision": config.precision,
        **{f"runtime.{k}": v for k, v in dataclasses.asdict(config.runtime).items() if v is not None},
    }
    empty = folder / "empty.toml"
    empty.touch()
    command = [sys.executable, "-m", "jobs.build_catalog", str(empty)]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    started = time.perf_counter()
    environment = {**os.environ, "RAY_TMPDIR": str(folder / "ray")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:  # noqa: S603 - our own job
        assert process.stdout is not None
        with watch(process.pid, folder / "ray") as footprint:
            lines = process.stdout.read().decode().splitlines()
            process.wait()
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"the job ended with exit code {process.returncode}; its messages are above")
    summary = json.loads(lines[-1])
    return {
        "rows": summary["rows"],  # written, published and verified
        "seconds": round(seconds, 3),
        "rate_per_s": round(summary["rows"] / seconds, 1),
        "steady_rate_per_s": summary["steady_rate_per_s"],
        "step_seconds": {"start": round(seconds - sum(summary["step_seconds"].values()), 3), **summary["step_seconds"]},
        "peak_bytes": footprint.peak_bytes,
        "peak_spilled_bytes": footprint.peak_spilled_bytes,
        "failed": summary["failed"],
    }


def _result(
    config: BenchmarkConfig,
    load: float,
    ceilings: dict[str, float],
    against_torch: dict[str, float],
    runs: list[dict[str, Any]],
) -> dict[str, Any]:
    cores = config.runtime.num_cpus or os.cpu_count() or 1
    gpus = torch.cuda.device_count() if config.runtime.device != "cpu" else 0
    steps = {name: rate for name, rate in ceilings.items() if "loop" not in name and "first time" not in name}
    steps = {n: r for n, r in steps.items() if not n.startswith("decode") or n == f"decode, {cores} threads"}
    lowest = min(steps, key=lambda name: steps[name])
    for run in runs:
        steady = run["steady_rate_per_s"]
        run["share_of_lowest_ceiling"] = None if steady is None else round(steady / steps[lowest], 3)
    return {
        "cores": cores,
        "gpus": gpus,
        "gpu": torch.cuda.get_device_name() if gpus else None,
        "load_per_core_before": round(load, 2),
        "busy": load > _BUSY,
        "ceilings_per_s": ceilings,
        "lowest_ceiling": lowest,
        "against_torch_fp32": {"cutouts": _AGREEMENT_CUTOUTS, **against_torch},
        "whole_job": runs,
        "output_uri": config.output_uri,
    }


if __name__ == "__main__":
    sys.exit(run_job("Measure ceilings and the whole job, on this machine and data.", benchmark))
