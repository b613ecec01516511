"""The galaxies to find similar ones of: rows of the catalog, or a cutout that is classified here."""

import posixpath
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.config import ClassifyConfig
from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.model.checkpoint import read_checkpoint
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.model.engines.choose import choose_engine
from galaxy_batch.model.engines.engine import Precision
from galaxy_batch.release_page.sampling import RowLocation
from galaxy_batch.rows import EMBEDDING, IMAGE_BYTES, Status
from galaxy_batch.settings import parse_config
from galaxy_batch.similar.config import SimilarConfig
from galaxy_batch.similar.search import find_embeddings
from galaxy_batch.storage.files import read_bytes

__all__ = ["Query", "queries_of"]

_SHOWN = 5


@dataclass(frozen=True)
class Query:
    """A galaxy to find similar ones of."""

    name: int | str
    """Its id, or the name of its file."""
    embedding: npt.NDArray[np.float32]
    """``(size,)``."""
    place: RowLocation | None = None
    """Where it is in the catalog; None for a cutout."""
    content: bytes = b""
    """The encoded cutout, where it is not in the catalog."""
    prediction: str = ""
    """Class and confidence of the cutout, where it is not in the catalog."""


def queries_of(config: SimilarConfig, manifest: CatalogManifest) -> list[Query]:
    """The galaxies that a config names, in its order.

    Raises:
        InputError: an id is not in the catalog or has no image; the cutout or the checkpoint cannot be used.
    """
    if config.image_uri is not None:
        return [_of_cutout(config, config.image_uri, manifest)]
    ids = _typed_ids(config.ids, manifest)
    known = find_embeddings(config.catalog_uri, list(manifest.embeddings.values()), ids)
    wanted: list[int | str] = ids.to_pylist()
    for problem, having in (
        ("is not in the catalog", [one for one in wanted if one not in known]),
        (
            "has no image in the catalog, hence no embedding",
            [one for one in wanted if one in known and known[one][1] is None],
        ),
    ):
        if having:
            raise InputError("ids", ", ".join(map(str, having[:_SHOWN])), problem)
    return [
        Query(one, embedding, place) for one in wanted for place, embedding in [known[one]] if embedding is not None
    ]


def _typed_ids(ids: tuple[str, ...], manifest: CatalogManifest) -> pa.Array:
    """The ids with the type that they have in the catalog."""
    if manifest.schema["object_id"] != "int64":
        return pa.array(ids, pa.string())
    for one in ids:
        if not one.removeprefix("-").isascii() or not one.removeprefix("-").isdigit() or abs(int(one)) >= 2**63:
            raise InputError("ids", one, "the ids of this catalog are 64-bit integers")
    return pa.array([int(one) for one in ids], pa.int64())


def _of_cutout(config: SimilarConfig, uri: str, manifest: CatalogManifest) -> Query:
    """Classify one cutout as the catalog's own were, on this machine's CPUs."""
    checkpoint_uri = config.checkpoint_uri or str(manifest.config.get("checkpoint_uri", ""))
    if read_checkpoint(checkpoint_uri).checkpoint.checkpoint_id != manifest.model_id:
        remedy = f"is not the checkpoint of the catalog, which is {manifest.model_id}"
        raise InputError("checkpoint_uri", checkpoint_uri, remedy)
    limits = parse_config(ClassifyConfig, manifest.config["classify"])
    try:
        content = read_bytes(uri)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError("image_uri", uri, "no such file") from None
    except OSError as error:
        raise InputError("image_uri", uri, f"cannot be read: {without_secrets(str(error))}") from None
    rows = pa.table(
        {
            IMAGE_BYTES: pa.array([content], pa.large_binary()),
            "status": [str(Status.OK)],
            "error": pa.nulls(1, pa.string()),
        }
    )
    precision: Precision = "bf16" if limits.precision == "bf16" else "fp32"
    classifier = Classifier(checkpoint_uri, limits, 1, choose_engine(), precision, threads=1)
    (row,) = classifier(rows).select(["status", "error", "predicted_class", "confidence", EMBEDDING]).to_pylist()
    if row["status"] != Status.OK:
        raise InputError("image_uri", uri, f"{row['status']}: {row['error']}")
    embedding = np.frombuffer(row[EMBEDDING], np.float16).astype(np.float32)
    prediction = f"{row['predicted_class']} {row['confidence']:.2f}"
    return Query(posixpath.basename(uri), embedding, content=content, prediction=prediction)
