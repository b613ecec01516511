"""Simulated rows all over the sky, and catalogs of them: without images, a model, or Ray."""

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.catalog.counts import total_counts
from galaxy_batch.catalog.files import CatalogFileHeader
from galaxy_batch.catalog.layout import Layout, fingerprint
from galaxy_batch.catalog.manifest import CatalogManifest, CatalogProvenance
from galaxy_batch.catalog.parts import write_part
from galaxy_batch.catalog.publish import publish
from galaxy_batch.catalog.sort_parts import PartTotals, sort_parts
from galaxy_batch.catalog.verify_rows import CatalogContract
from galaxy_batch.embeddings import packed_embeddings
from galaxy_batch.review.flags import ReviewLimits, flag_for_review
from galaxy_batch.rows import EMBEDDING, catalog_schema
from galaxy_batch.runtime.tasks import TaskRunner, run_in_order
from galaxy_batch.sky.healpix import pixels_at
from tests.support.votes import questions_in

RELEASE, MODEL_ID = "made-up", "0123456789abcdef"
CLASSES = ("smooth", "featured")
VERSIONS = {name: version(name) for name in ("galaxy-batch", "torch", "timm", "pillow")}
LIMITS = {"min_confidence": 0.6, "max_unfamiliarity": 2.0, "max_instability": 0.2}
REVIEW = ReviewLimits(**LIMITS, audit_fraction=0.05)
CONTRACT = CatalogContract(CLASSES, release=RELEASE, model_id=MODEL_ID, limits=REVIEW)


def even_positions(count: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Positions in degrees, uniform on the sphere, including both poles and both sides of RA 0."""
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    corners = [(0, 90), (0, -90), (0, 0), (359.999_999, 0), (0.000_001, 0), (45, 89.999), (225, 89.999), (0, 1e-9)]
    for place, (corner_ra, corner_dec) in enumerate(corners[:count]):
        ra[place], dec[place] = corner_ra, corner_dec
    return ra, dec


def sky_rows(
    count: int,
    seed: int = 0,
    positions: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None,
    without_position: float = 0.0,
    text_ids: bool = False,
    first: int = 0,
) -> pa.Table:
    """Simulated rows after classification: 2% have no image, 2.5% have the same placeholder.

    Args:
        count: rows.
        seed: another seed is another sky.
        positions: right ascensions and declinations; even over the sphere when not given.
        without_position: share of the rows without a position.
        text_ids: ids like `J1237…` in place of integers.
        first: number of the first row among those with the same seed, so that ids differ.
    """
    rng = np.random.default_rng((seed, first))
    ra, dec = positions or even_positions(count, rng)
    nowhere = rng.random(count) < without_position
    numbers = 1_237_648_720_693_755_918 + (first + np.arange(count, dtype=np.int64)) * 7919
    ids = pa.array([f"J{number}" for number in numbers.tolist()]) if text_ids else pa.array(numbers)
    failed = rng.random(count) < 0.02
    p_smooth = rng.beta(0.5, 0.5, count).astype(np.float32)
    probabilities = np.stack([p_smooth, np.float32(1) - p_smooth], axis=1)
    hashes = rng.integers(-(2**63), 2**63 - 1, count)
    hashes[rng.random(count) < 0.025] = 42
    rows = pa.table(
        {
            "object_id": ids,
            "ra": pa.array(ra, mask=nowhere),
            "dec": pa.array(dec, mask=nowhere),
            "predicted_class": pa.array(np.array(CLASSES)[probabilities.argmax(axis=1)], mask=failed),
            "confidence": pa.array(probabilities.max(axis=1), mask=failed),
            "p_smooth": pa.array(probabilities[:, 0], mask=failed),
            "p_featured": pa.array(probabilities[:, 1], mask=failed),
            "unfamiliarity": pa.array(rng.lognormal(0, 0.4, count).astype(np.float32), mask=failed),
            "instability": pa.array(rng.beta(1, 8, count).astype(np.float32) / 2, mask=failed),
            "status": pa.array(np.where(failed, "missing", "ok")),
            "error": pa.array(np.full(count, "no such file"), mask=~failed),
            "image_hash": pa.array(hashes, mask=failed),
            "_healpix_29": pa.array(pixels_at(ra, dec), mask=nowhere),
            "_blank_fraction": pa.array(np.full(count, 0.1, np.float32), mask=failed),
        }
    )
    return flag_for_review(rows, REVIEW)


def clumped_rows(count: int, seed: int = 0, text_ids: bool = False) -> pa.Table:
    """Rows of which a quarter is around the north pole and another across RA 0, so that tiles are of many orders."""
    rng = np.random.default_rng(seed)
    ra, dec = even_positions(count, rng)
    part = count // 4
    pole, equator = slice(part, 2 * part), slice(2 * part, 3 * part)
    ra[pole], dec[pole] = rng.uniform(0, 360, part), 90 - np.abs(rng.normal(0, 0.05, part))
    ra[equator], dec[equator] = rng.normal(0, 0.02, part) % 360, rng.normal(0, 0.02, part)
    return sky_rows(count, seed, (ra, dec), without_position=0.03, text_ids=text_ids)


def schema_of(rows: pa.Table) -> pa.Schema:
    """Schema of a catalog of the rows; columns that the package does not define are kept columns."""
    id_type = rows.schema.field("object_id").type
    votes = questions_in(rows.column_names), any(name.endswith("_dirichlet") for name in rows.column_names)
    own = [*catalog_schema(id_type, CLASSES, (), *votes).names, EMBEDDING]
    return catalog_schema(id_type, CLASSES, [column for column in rows.schema if column.name not in own], *votes)


def with_embeddings(rows: pa.Table, size: int = 4, seed: int = 0) -> pa.Table:
    """The rows with an embedding of each that has an image."""
    values = np.random.default_rng(seed).normal(0, 3, (len(rows), size))
    return rows.append_column(EMBEDDING, packed_embeddings(values, rows["predicted_class"].is_null().to_numpy()))


def embedding_size(rows: pa.Table) -> int:
    """How many numbers the rows' embeddings have; 0 without."""
    return rows[EMBEDDING].type.byte_width // 2 if EMBEDDING in rows.column_names else 0


def write_parts(folder: Path | str, rows: pa.Table, part_rows: int, first: int = 0) -> list[int]:
    """Write rows as part files; returns the number of rows of each."""
    sizes = []
    for number, start in enumerate(range(0, len(rows), part_rows), start=first):
        part = rows.slice(start, part_rows)
        part = part.append_column("_chunk", pa.array(np.full(len(part), number, np.int32)))
        write_part(part, str(folder), schema_of(rows), RELEASE, MODEL_ID)
        sizes.append(len(part))
    return sizes


def layout_in(folder: Path | str) -> Layout:
    """Where the parts, the sorted runs and the catalog of a simulated sky are."""
    return Layout(str(folder), RELEASE, MODEL_ID, fingerprint("survey", MODEL_ID, {}))


def provenance_of(
    rows: int,
    schema: pa.Schema,
    max_rows: int = 1000,
    embedding: int = 0,
    margin_arcsec: float = 0.0,
    index: bool = False,
) -> CatalogProvenance:
    """What the pipeline records in a manifest."""
    review = {"min_repeats": REVIEW.min_repeats, "audit_fraction": REVIEW.audit_fraction, "audit_seed": 0}
    questions = questions_in(schema.names)
    classify: dict[str, Any] = {"embedding": embedding} if embedding else {}
    classify |= {"concentrations": True} if any(name.endswith("_dirichlet") for name in schema.names) else {}
    return CatalogProvenance(
        manifest_rows=rows,
        release=RELEASE,
        model_id=MODEL_ID,
        fingerprint=fingerprint("survey", MODEL_ID, {}),
        run_id="20260101T000000Z-00000000",
        survey="objects.csv",
        classes=CLASSES,
        **LIMITS,
        schema=CatalogFileHeader(schema, RELEASE, MODEL_ID).columns,
        checkpoint={"spec": {"questions": list(map(dataclasses.asdict, questions))}} if questions else {},
        config={"review": review, "manifest": {"ra_column": "ra"}, **({"classify": classify} if classify else {})},
        max_rows=max_rows,
        margin_arcsec=margin_arcsec,
        index=index,
    )


def manifest_with(**changes: Any) -> CatalogManifest:
    """The manifest of a catalog without rows or files, with other values for some entries."""
    provenance = provenance_of(0, catalog_schema(pa.int64(), CLASSES))
    values = {**vars(total_counts([])), **vars(provenance), "files": (), "metadata_files": (), **changes}
    return CatalogManifest(**values)


def read_catalog(folder: str | Path) -> pa.Table:
    """All rows of a catalog, sorted by id."""
    tables = [pq.read_table(file, partitioning=None) for file in sorted(Path(folder).rglob("*.parquet"))]
    return pa.concat_tables(table.replace_schema_metadata(None) for table in tables).sort_by("object_id")


def publish_rows(
    folder: Path,
    rows: pa.Table,
    part_rows: int = 1000,
    max_rows: int = 1000,
    run_rows: int = 3000,
    task_runner: TaskRunner = run_in_order,
    margin_arcsec: float = 0.0,
    index: bool = False,
) -> Path:
    """Publish the rows; returns the folder of the catalog."""
    layout = layout_in(folder)
    sizes = write_parts(layout.parts, rows, part_rows)
    totals = sort_parts(layout, sizes, task_runner, run_rows)
    publish_sorted(layout, totals, rows, max_rows, task_runner, margin_arcsec, index)
    return Path(layout.catalog)


def write_unsorted_parts(folder: Path | str, rows: pa.Table) -> tuple[Layout, list[int]]:
    """Rows in parts of 500; where they are, and the rows of each."""
    layout = layout_in(folder)
    return layout, write_parts(layout.parts, rows, 500)


def publish_sorted(
    layout: Layout,
    totals: PartTotals,
    rows: pa.Table,
    max_rows: int = 400,
    task_runner: TaskRunner = run_in_order,
    margin_arcsec: float = 0.0,
    index: bool = False,
) -> CatalogManifest:
    """Publish rows that are sorted already."""
    schema = schema_of(rows)
    header = CatalogFileHeader(schema, RELEASE, MODEL_ID)
    provenance = provenance_of(len(rows), schema, max_rows, embedding_size(rows), margin_arcsec, index)
    return publish(layout, totals, header, provenance, REVIEW, task_runner)


def catalog_contents(catalog: Path) -> dict[str, bytes]:
    """Contents of all files of a catalog, except those that contain a date."""
    return {
        str(file.relative_to(catalog)): file.read_bytes()
        for file in sorted(catalog.rglob("*"))
        if file.is_file() and file.name not in ("manifest.json", "hats.properties")
    }


def with_columns(rows: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        place = rows.column_names.index(name)
        rows = rows.set_column(place, name, pa.array(values, rows[name].type))
    return rows
