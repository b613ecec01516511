"""Images that a column holds as arrays of fluxes, one per band, as in the HATS catalogs of the Multimodal Universe.

An image is `{band: [name, …], flux: [rows of pixels, …], …}`, or a list of `{band, flux, …}`; what else is in it
(`ivar`, `mask`, `psf_fwhm`, `scale`) is not read. It becomes a FITS file in memory, and is drawn as every FITS cutout.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.fits_format import PIXEL_TYPES, image_header, padded

__all__ = ["BAND", "FLUX", "band_names", "fits_files", "flux_leaves", "is_flux"]

BAND = "band"
"""Field of an image that names its bands."""
FLUX = "flux"
"""Field of an image with the pixels of its bands."""

_Plane = npt.NDArray[np.floating]


def is_flux(kind: pa.DataType) -> bool:
    """Whether it is a type of images as arrays of fluxes, one per band."""
    if _is_list(kind):
        kind = kind.value_type
        return _has_bands(kind) and _depth(kind.field(FLUX).type) == 2
    return _has_bands(kind) and _is_list(kind.field(BAND).type) and _depth(kind.field(FLUX).type) == 3


def flux_leaves(paths: Sequence[str], name: str, fields: Sequence[str]) -> list[str]:
    """Of the paths of a Parquet file's leaves, those of some fields of an image column.

    Args:
        paths: e.g. `image.flux.list.element.list.element.list.element`.
        name: of the image column.
        fields: `BAND`, `FLUX`.
    """
    below = {path: path.removeprefix(f"{name}.").split(".") for path in paths if path.startswith(f"{name}.")}
    return [path for path, parts in below.items() if set(fields) & set(parts)]


def band_names(column: pa.ChunkedArray) -> list[str]:
    """Names of the bands of the first image; empty where there is none. The fluxes may be absent."""
    for image in column.to_pylist():
        if image:
            return [each[BAND] for each in image] if isinstance(image, list) else list(image[BAND] or [])
    return []


def fits_files(column: pa.ChunkedArray, bands: Sequence[str]) -> pa.ChunkedArray:
    """FITS files of the named bands in this order, one image each; null where there is no image.

    The first row of an array is the bottom row of the picture, as FITS files store it. A band that an image does not
    have, or whose rows of pixels have different lengths, is left out: then the file cannot be decoded, and says so.

    Args:
        column: of a type that `is_flux`.
        bands: names.

    Returns:
        Column of large_binary.
    """
    images = (image for chunk in column.chunks for image in _bands(chunk))
    files = [None if image is None else _fits([*filter(_is_there, map(image.get, bands))]) for image in images]
    return pa.chunked_array([pa.array(files, pa.large_binary())])


def _is_there(plane: _Plane | None) -> TypeGuard[_Plane]:
    return plane is not None


def _has_bands(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and {BAND, FLUX} <= {kind.field(i).name for i in range(kind.num_fields)}


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _depth(kind: pa.DataType) -> int:
    """Number of nested lists around numbers; 0 for anything else."""
    depth = 0
    while isinstance(kind, pa.BaseExtensionType) or _is_list(kind):  # arrays of Hugging Face are an extension type
        depth += _is_list(kind)
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    return depth if pa.types.is_floating(kind) or pa.types.is_integer(kind) else 0


def _bands(images: pa.Array) -> Iterator[Mapping[str, _Plane | None] | None]:
    """The bands of each image, by name; None where there is no image."""
    if _is_list(images.type):
        ends, each = _lists(images)
        names, fluxes = pc.struct_field(each, BAND).to_pylist(), pc.struct_field(each, FLUX)
        name_ends = ends
    else:
        name_ends, texts = _lists(pc.struct_field(images, BAND))
        ends, fluxes = _lists(pc.struct_field(images, FLUX))
        names = texts.to_pylist()
    planes = _Planes(fluxes)
    for row, missing in enumerate(images.is_null().to_numpy(zero_copy_only=False)):
        own = names[name_ends[row] : name_ends[row + 1]]
        numbers = range(ends[row], ends[row + 1])
        if missing or not (own or numbers):
            yield None
        else:
            yield dict(zip(own, map(planes.plane, numbers), strict=True)) if len(own) == len(numbers) else {}


class _Planes:
    """Lists of lists of numbers as arrays, without copies."""

    def __init__(self, fluxes: pa.Array) -> None:
        self._rows, rows = _lists(fluxes)
        self._ends, pixels = _lists(rows)
        self._pixels = pixels.to_numpy(zero_copy_only=False)

    def plane(self, number: int) -> _Plane | None:
        """``(height, width)``; None where it is empty or its rows have different lengths."""
        ends = self._ends[self._rows[number] : self._rows[number + 1] + 1]
        widths = np.diff(ends)
        if not len(widths) or not widths[0] or (widths != widths[0]).any():
            return None
        plane: _Plane = self._pixels[ends[0] : ends[-1]].reshape(len(widths), widths[0])
        return plane


def _lists(array: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Offsets of lists, and what is in them."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(array, pa.FixedSizeListArray):
        return (np.arange(len(array) + 1) + array.offset) * array.type.list_size, array.values
    return array.offsets.to_numpy().astype(np.int64), array.values


def _fits(planes: Sequence[_Plane]) -> bytes:
    """A FITS file with one image for each plane (FITS Standard 4.0); the same planes give the same bytes."""
    if not planes:
        return image_header((), 8)
    parts = []
    for number, plane in enumerate(planes):
        bits = -32 if plane.dtype.kind == "f" and plane.dtype.itemsize <= 4 else -64
        parts += [image_header(plane.shape, bits, number > 0), padded(plane.astype(PIXEL_TYPES[bits]).tobytes())]
    return b"".join(parts)
