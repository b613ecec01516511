"""Morphology catalogs from millions of galaxy cutouts."""

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["classify"]


def classify(
    folder: str | PathLike[str], checkpoint: str | PathLike[str] = "builtin:gz2-smooth-featured", **manifest: Any
) -> "pa.Table":
    """Classify the cutouts of a survey in this process, without Ray, and return the rows of its catalog.

    Args:
        folder: what the setting `manifest.uri` takes, as a path or URI.
        checkpoint: a trained model, as in the setting `checkpoint_uri`.
        manifest: further settings of `[manifest]`, such as `uri_template="images/{objid}.jpg"`.

    Returns:
        The columns of a catalog with the same flags, without `release` and `model_id`, in the order of the manifest.
        Rows are held in memory, cutouts are not.

    Raises:
        galaxy_batch.errors.InputError: the cutouts or the checkpoint cannot be used.
    """
    from galaxy_batch.classification import classify_objects  # noqa: PLC0415 - torch takes seconds

    return classify_objects(fspath(folder), fspath(checkpoint), **manifest)
