"""Measure the speed of each stage of a catalog job, then the speed and memory of the whole job, on this machine.

Example:
    python -m jobs.benchmark jobs/configs/benchmark.toml --set rows=2000
"""

import argparse
import copy
import dataclasses
import json
import logging
import math
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

from galaxy_batch.config import ClassifyConfig, ManifestConfig, RuntimeConfig
from galaxy_batch.errors import GateError
from galaxy_batch.inputs.manifest import read_objects
from galaxy_batch.model.checkpoint import Checkpoint, agreement
from galaxy_batch.model.engines.choose import choose_engine, make_engine
from galaxy_batch.model.engines.engine import BATCH_SIZES, EngineName, Precision
from galaxy_batch.model.network import MorphologyModel, build_model
from galaxy_batch.model.saved_model import load_checkpoint, save_checkpoint
from galaxy_batch.model.spec import RANDOM, ModelSpec
from galaxy_batch.rows import IMAGE_BYTES, IMAGE_URI
from galaxy_batch.settings import Range, Uri, load_config
from galaxy_batch.storage.files import join, write_atomically, write_json
from galaxy_batch.synthetic.survey import write_survey
from jobs.arguments import CommandLine
from jobs.benchmark.engine_tests import run_engine_tests
from jobs.benchmark.memory import watch_memory
from jobs.benchmark.stage_rates import (
    decode_rate,
    engine_probabilities,
    engine_rate,
    prepared_batches,
    read_rate,
    timm_loop_rate,
)
from jobs.benchmark.tables import rates_chart, rates_table
from jobs.benchmark.tile_rates import tile_rates
from jobs.benchmark.utilization import steady_interval, watch_utilization
from jobs.command import run_job

logger = logging.getLogger("jobs.benchmark")

_BUSY = 0.3  # load per core above which rates are not reliable
_STAGE_ROWS = 4000  # whose stages are measured alone
_AGREEMENT_CUTOUTS = 512
_MIN_BATCHES = 8
_RELEASE_ROWS = 100_000_000  # whose cost is estimated
_TILE_PX, _TILE_OBJECTS, _TILE_ROUNDS = 2048, 200, 5


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure, and for how long."""

    output_uri: Annotated[str, Uri]
    """Folder for `benchmark.json`, `benchmark.md` and `benchmark.png`; catalogs go to a temporary folder."""
    manifest: ManifestConfig | None = None
    """The cutouts; by default a small synthetic survey."""
    checkpoint_uri: Annotated[str, Uri] | None = None
    """The model; by default EfficientNet-B0 with random weights, which is as fast as a trained one."""
    architecture: str = "efficientnet_b0"
    """Of the random model."""
    size_px: Annotated[int, Range(32, 1024)] = 224
    """Of the random model."""
    crop_fraction: Annotated[float, Range(0.1, 1)] = 1.0
    """Of the random model."""
    rows: Annotated[int, Range(16)] = 4000
    """Cutouts of the whole job; the manifest's are repeated where there are fewer."""
    seconds: Annotated[float, Range(0.1, 600)] = 5.0
    """Duration of each measurement of the model alone."""
    runs: Annotated[int, Range(1, 100)] = 2
    """Runs of the whole job; the first has cold caches, unless this machine has cached the files before."""
    chunk_rows: Annotated[int, Range(1, 1_000_000)] = 256
    """Rows per chunk of the job."""
    plain_loop: bool = True
    """Whether to measure timm's own inference loop over the same files too."""
    tiles: bool = False
    """Whether to measure cutting from tiles too, against a loop of `Cutout2D` and, where it is installed, astrocut."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """As for a catalog."""
    precisions: tuple[Literal["fp32", "bf16"], ...] = ()
    """Model and whole job are measured with each of these; when not given, with `precision` alone."""
    engine_tests: bool = False
    """Whether to run the tests of the GPU engine first, which compare it with the CPU: exit code 3 where one fails.
    Needs a checkout and pytest."""
    price_per_hour: Annotated[float, Range(0)] | None = None
    """Price of this machine, for the cost of 100 million cutouts, in its currency."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    """As for a catalog."""


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the stages, then the whole job; write JSON, a table and a chart."""
    config = load_config(BenchmarkConfig, arguments.config, arguments.set)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if load > _BUSY:
        logger.warning("the machine is busy (load %.2f per core): all rates are too low", load)
    tests = run_engine_tests() if config.engine_tests else None
    with tempfile.TemporaryDirectory(prefix="gb-") as folder:
        objects = _objects(config, Path(folder))
        checkpoint_uri = config.checkpoint_uri or _random_checkpoint(config, Path(folder))
        rates, agreed = _stage_rates(config, checkpoint_uri, objects)
        if config.tiles:
            rates |= tile_rates(Path(folder), _cores(config), _TILE_PX, _TILE_OBJECTS, _TILE_ROUNDS)
        runs = [
            _whole_job(one, checkpoint_uri, objects, Path(folder), number)
            for one in _with_each_precision(config)
            for number in range(config.runs)
        ]
    result = _result(config, load, rates, agreed, runs) | {"engine_tests": tests}
    write_json(join(config.output_uri, "benchmark.json"), result)
    table = rates_table(result)
    write_atomically(join(config.output_uri, "benchmark.md"), table.encode())
    write_atomically(join(config.output_uri, "benchmark.png"), rates_chart(result))
    logger.info("\n%s", table)
    if tests is not None and tests["failed"]:
        raise GateError(f"tests of the GPU engine fail: {', '.join(tests['failures'])}", result)
    return result


def _with_each_precision(config: BenchmarkConfig) -> list[BenchmarkConfig]:
    return [dataclasses.replace(config, precision=one) for one in config.precisions or (config.precision,)]


def _objects(config: BenchmarkConfig, folder: Path) -> pa.Table:
    """`rows` objects with the URIs or bytes of their cutouts, and new ids."""
    if config.manifest is None:
        survey = write_survey(folder / "survey", galaxies=min(config.rows, 400), seed=1)
        manifest = ManifestConfig(uri=str(survey.manifest), uri_template="images/{object_id}.jpg")
    else:
        manifest = config.manifest
    objects = read_objects(dataclasses.replace(manifest, keep_columns=()))
    rows = objects.take(pa.array([row % len(objects) for row in range(config.rows)]))
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


def _stage_rates(
    config: BenchmarkConfig, checkpoint_uri: str, objects: pa.Table
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Cutouts per second of each stage alone, with all cores of this machine and its GPU.

    And the `agreement` of the engine with torch in fp32, by the name of the model's rate.
    """
    checkpoint, model = load_checkpoint(checkpoint_uri)
    cores, limits = _cores(config), ClassifyConfig()
    objects = objects.slice(0, _STAGE_ROWS)
    rates: dict[str, float] = {}
    rates["read, first time"], contents = read_rate(objects, limits, config.chunk_rows)
    rates["read, again"], _ = read_rate(objects, limits, config.chunk_rows)
    for threads in sorted({2**n for n in range(cores.bit_length()) if 2**n <= cores} | {cores}):
        rates[_decode_stage(threads)] = decode_rate(
            contents[:2000], checkpoint.spec, limits, threads, native=_gpus(config) > 0
        )
    agreed: dict[str, dict[str, float]] = {}
    for one in _with_each_precision(config):
        measured, agreed_one = _engine_rates(one, checkpoint, copy.deepcopy(model), contents)
        name = next(iter(measured))
        rates |= measured if not agreed else {name: measured[name], f"{name} with transfer": min(measured.values())}
        agreed[name] = agreed_one
    if config.plain_loop and IMAGE_URI in objects.column_names:
        files = objects[IMAGE_URI].drop_null().to_pylist()
        rates["timm's own loop"] = timm_loop_rate(files[:1500], checkpoint.spec, cores, _gpus(config) > 0)
    return {name: round(rate, 1) for name, rate in rates.items()}, agreed


def _engine_rates(
    config: BenchmarkConfig, checkpoint: Checkpoint, model: MorphologyModel, contents: list[bytes]
) -> tuple[dict[str, float], dict[str, float]]:
    """Rates of the engine that a catalog job would choose, and its `agreement` with torch in fp32."""
    cores, runtime = _cores(config), config.runtime
    name: EngineName = choose_engine() if runtime.engine == "auto" else runtime.engine
    name = "cuda" if _gpus(config) else name
    default: Precision = "bf16" if checkpoint.bf16_agrees else "fp32"
    precision: Precision = default if config.precision == "auto" else config.precision
    size = runtime.batch_size or BATCH_SIZES[name]
    step = min(size, BATCH_SIZES["torch"])  # an engine fills up a smaller batch
    compared = math.ceil(_AGREEMENT_CUTOUTS / step)
    limits = ClassifyConfig()
    sample = prepared_batches(contents, checkpoint.spec, limits, step, compared)
    reference = make_engine("torch", model, "fp32", step, cores)
    expected = engine_probabilities(reference, sample, checkpoint.temperature)
    logger.info("loading the network into %s, %s; a GPU compiles it first, which can take minutes", name, precision)
    engine = make_engine(name, model, precision, size, cores)
    agreed = agreement(engine_probabilities(engine, sample, checkpoint.temperature), expected)
    number = max(_MIN_BATCHES, math.ceil(_AGREEMENT_CUTOUTS / size))
    batches = prepared_batches(contents, checkpoint.spec, limits, size, number, native=engine.resizes)
    logger.info("measuring the network alone: twice %.0f s", config.seconds)
    return {
        f"model ({name}, {precision})": engine_rate(engine, batches, config.seconds, False, checkpoint.spec.views),
        "model with transfer": engine_rate(engine, batches, config.seconds, True, checkpoint.spec.views),
    }, agreed


def _whole_job(
    config: BenchmarkConfig, checkpoint_uri: str, objects: pa.Table, folder: Path, number: int
) -> dict[str, Any]:
    """Run `jobs.build_catalog` as a user does, in its own process, and measure its time and memory."""
    command = _catalog_command(config, checkpoint_uri, objects, folder, number)
    started = time.perf_counter()
    environment = {**os.environ, "RAY_TMPDIR": str(folder / "ray")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:  # noqa: S603 - our own job
        assert process.stdout is not None
        with watch_memory(process.pid, folder / "ray") as memory, watch_utilization(process.pid) as used:
            lines = process.stdout.read().decode().splitlines()
            process.wait()
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"the job ended with exit code {process.returncode}; its messages are above")
    summary = json.loads(lines[-1])
    parts = sorted(Path(summary["parts_uri"]).glob("*.parquet"))
    return {
        "precision": config.precision,
        **used.within(steady_interval(parts)),
        "rows": summary["rows"],  # written, published and verified
        "seconds": round(seconds, 3),
        "rate_per_s": round(summary["rows"] / seconds, 1),
        "steady_rate_per_s": summary["steady_rate_per_s"],
        "step_seconds": {"start": round(seconds - sum(summary["step_seconds"].values()), 3), **summary["step_seconds"]},
        "peak_bytes": memory.peak_bytes,
        "peak_spilled_bytes": memory.peak_spilled_bytes,
        "failed": summary["failed"],
    }


def _catalog_command(
    config: BenchmarkConfig, checkpoint_uri: str, objects: pa.Table, folder: Path, number: int
) -> list[str]:
    """The command line of `jobs.build_catalog`, whose manifest and empty config are written to the folder."""
    manifest, empty = folder / "manifest.parquet", folder / "empty.toml"
    if not manifest.exists():
        pq.write_table(objects.select(["object_id", "ra", "dec", objects.column_names[-1]]), manifest)
    empty.touch()
    settings = {
        "release": f"run-{config.precision}-{number}",
        "output_uri": str(folder / "catalogs"),
        "checkpoint_uri": checkpoint_uri,
        "max_failed_fraction": 1.0,
        "manifest.uri": str(manifest),
        "manifest.image_column": IMAGE_URI if IMAGE_URI in objects.column_names else IMAGE_BYTES,
        "manifest.ra_column": "ra",
        "manifest.dec_column": "dec",
        "classify.chunk_rows": config.chunk_rows,
        "classify.precision": config.precision,
        **{f"runtime.{k}": v for k, v in dataclasses.asdict(config.runtime).items() if v is not None},
    }
    overrides = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "jobs.build_catalog", str(empty), *overrides]


def _result(
    config: BenchmarkConfig,
    load: float,
    rates: dict[str, float],
    agreed: dict[str, dict[str, float]],
    runs: list[dict[str, Any]],
) -> dict[str, Any]:
    cores, gpus = _cores(config), _gpus(config)
    names = list(agreed)
    lowest = [_slowest(rates, name, cores) for name in names]
    for number, run in enumerate(runs):
        steady, place = run["steady_rate_per_s"], number // config.runs
        run["share_of_lowest_ceiling"] = None if steady is None else round(steady / rates[lowest[place]], 3)
        run["share_of_model"] = None if steady is None else round(steady / rates[names[place]], 3)
        hours = None if not steady else _RELEASE_ROWS / steady / 3600
        run["hours_per_100_million"] = None if hours is None else round(hours, 2)
        priced = hours is not None and config.price_per_hour is not None
        run["cost_per_100_million"] = round(hours * config.price_per_hour, 2) if priced else None  # type: ignore[operator]
    return {
        "cores": cores,
        "gpus": gpus,
        "gpu": torch.cuda.get_device_name() if gpus else None,
        "load_per_core_before": round(load, 2),
        "busy": load > _BUSY,
        "ceilings_per_s": rates,
        "lowest_ceiling": lowest[0],
        "against_torch_fp32": {"cutouts": _AGREEMENT_CUTOUTS, **agreed[names[0]]},
        "agreement": agreed,
        "whole_job": runs,
        "output_uri": config.output_uri,
    }


def _slowest(rates: dict[str, float], model: str, cores: int) -> str:
    """The stage of a pipeline with this model that is slowest alone."""
    transfer = next(name for name in (f"{model} with transfer", "model with transfer") if name in rates)
    return min(("read, again", _decode_stage(cores), model, transfer), key=lambda name: rates[name])


def _cores(config: BenchmarkConfig) -> int:
    return config.runtime.num_cpus or os.cpu_count() or 1


def _gpus(config: BenchmarkConfig) -> int:
    return torch.cuda.device_count() if config.runtime.device != "cpu" else 0


def _decode_stage(threads: int) -> str:
    return f"decode, {threads} threads"


if __name__ == "__main__":
    sys.exit(run_job(CommandLine(__doc__, BenchmarkConfig), benchmark))
