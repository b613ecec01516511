"""Example rows of a release: read from the catalog, shown with their cutouts, links and Grad-CAM maps."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt
from PIL import Image

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.catalog.read_files import read_row_group
from galaxy_batch.cutouts.resize import Pixels
from galaxy_batch.links import cutout_links, galaxy_links, locations
from galaxy_batch.model.checkpoint import CheckpointFile, read_checkpoint
from galaxy_batch.model.engines.choose import choose_engine
from galaxy_batch.model.engines.class_maps import class_maps
from galaxy_batch.model.engines.engine import BATCH_SIZES
from galaxy_batch.model.engines.network_cache import cached_network
from galaxy_batch.release_page.sampling import RowLocation
from galaxy_batch.report.cutouts import Cutout
from galaxy_batch.report.page import Picture, Tile
from galaxy_batch.report.pictures import grad_cam_picture
from galaxy_batch.rows import IMAGE_URI_COLUMN, MODEL_COLUMNS, ReviewFlag, UnusableCutout, flag_names

__all__ = ["Example", "example_tile", "explain_flagged", "read_examples"]

logger = logging.getLogger(__name__)

_COLUMNS = ["object_id", "ra", "dec", "predicted_class", "confidence", "review_flags", "status", "error", "image_hash"]
_MAX_MAPS = 32  # a map takes as long as classifying three or four cutouts
_BY_MODEL = [flag for flag in ReviewFlag if flag.condition.column in ("confidence", *MODEL_COLUMNS)]
_BY_IMAGE = ReviewFlag.BLANK | ReviewFlag.REPEATED_IMAGE | ReviewFlag.UNREADABLE


@dataclass(frozen=True)
class Example:
    """A row on a contact sheet."""

    object_id: int | str
    ra: float | None
    dec: float | None
    predicted_class: str | None
    confidence: float | None
    review_flags: int
    status: str
    error: str | None
    image_hash: int | None
    image_uri: str | None = None
    """Where the cutout was; None in a catalog without this column."""

    @property
    def flags(self) -> str:
        """Names of its flags."""
        return ", ".join(flag_names(self.review_flags))

    @property
    def is_explained(self) -> bool:
        """Whether its flags come from the model's output, and its cutout may show a galaxy."""
        return any(self.review_flags & flag for flag in _BY_MODEL) and not self.review_flags & _BY_IMAGE


def read_examples(
    catalog_uri: str, manifest: CatalogManifest, locations: Sequence[RowLocation]
) -> dict[RowLocation, Example]:
    """The rows at these locations of a catalog, read one row group at a time.

    Args:
        catalog_uri: its folder.
        manifest: of the catalog.
        locations: where the rows are.
    """
    columns = [*_COLUMNS, IMAGE_URI_COLUMN.name] if manifest.has_image_uri else _COLUMNS
    examples: dict[RowLocation, Example] = {}
    for (file, group), rows in groupby(sorted(locations), key=itemgetter(0, 1)):
        wanted = list(rows)
        table = read_row_group(catalog_uri, manifest.files[file], group, columns)
        table = table.take([location.row for location in wanted])
        examples |= {location: Example(**row) for location, row in zip(wanted, table.to_pylist(), strict=True)}
    return examples


def example_tile(
    example: Example,
    cutout: Cutout,
    links: Mapping[str, str],
    folder_uri: str,
    grad_cam: Picture | None = None,
    answer: str = "",
) -> Tile:
    """The row on a contact sheet.

    Args:
        example: the row.
        cutout: its cutout.
        links: templates of further links.
        folder_uri: of the page.
        grad_cam: shown beside the cutout.
        answer: answer and fraction, in place of the class.
    """
    prediction = "no class" if example.confidence is None else f"{example.predicted_class} {example.confidence:.2f}"
    prediction = answer or prediction
    lines = [prediction, example.flags] if example.flags else [prediction]
    if cutout.content is not None and cutout.image_hash != example.image_hash:
        lines.append("the cutout has changed since the run")
    picture = cutout.picture(f"Cutout of {example.object_id}: {prediction}")
    return Tile(
        (picture,) if grad_cam is None else (picture, grad_cam),
        tuple(lines),
        str(example.object_id),
        {
            **cutout_links(cutout.uris or locations(example.image_uri), folder_uri),
            **galaxy_links(links, example.object_id, example.ra, example.dec),
        },
    )


def explain_flagged(
    examples: Sequence[Example], cutouts: Mapping[str, Cutout], manifest: CatalogManifest, checkpoint_uri: str
) -> dict[str, Picture]:
    """Grad-CAM of the predicted class, of examples whose flags come from the model's output, by object id as text.

    Empty where there are none, or where the checkpoint cannot be read or is another one, which is only logged.
    """
    pixels: list[Pixels] = []
    shown: list[Example] = []
    side_px = int(manifest.checkpoint["spec"]["size_px"])
    for example in examples:
        if example.is_explained and len(shown) < _MAX_MAPS:
            try:
                pixels.append(cutouts[str(example.object_id)].pixels(side_px))
            except UnusableCutout:
                continue
            shown.append(example)
    if not shown:
        return {}
    file = read_checkpoint(checkpoint_uri)
    if file.checkpoint.checkpoint_id != manifest.model_id:
        logger.warning("no Grad-CAM on the page: %s is not the checkpoint of the catalog", checkpoint_uri)
        return {}
    classes = np.array([manifest.classes.index(str(example.predicted_class)) for example in shown])
    small = _grad_cam(file, pixels, classes)
    if small is None:
        return {}
    maps = [Image.fromarray(values).resize((side_px, side_px), Image.Resampling.BILINEAR) for values in small]
    return {
        str(example.object_id): grad_cam_picture(cutout, np.asarray(values), f"Grad-CAM of {example.predicted_class}")
        for example, cutout, values in zip(shown, pixels, maps, strict=True)
    }


def _grad_cam(
    file: CheckpointFile, pixels: Sequence[Pixels], classes: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32] | None:
    """Maps of the classes ``(N, cells, cells)``: from the converted network that a run has kept, else with torch.

    None for an architecture without a feature map.
    """
    if choose_engine() == "openvino":
        network = cached_network(file.checkpoint.checkpoint_id, BATCH_SIZES["openvino"])
        maps = None if network is None else class_maps(network, pixels, classes)
        if maps is not None:
            return maps
    import torch  # noqa: PLC0415 - torch and timm take seconds

    from galaxy_batch.model.grad_cam import grad_cam  # noqa: PLC0415
    from galaxy_batch.model.saved_model import load_model  # noqa: PLC0415

    small = grad_cam(load_model(file), torch.from_numpy(np.stack(pixels)), classes)
    return None if small is None else small.numpy()
