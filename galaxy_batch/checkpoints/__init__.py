"""Trained checkpoints that ship with the package; `README.md` here is their model card.

`builtin:NAME` as a checkpoint URI is the file `NAME.safetensors` of this folder.
"""

from importlib.resources import files

from galaxy_batch.errors import InputError
from galaxy_batch.storage.files import read_bytes

__all__ = ["model_card_of", "read_model_file"]

_BUILTIN = "builtin:"
_SUFFIX = ".safetensors"


def read_model_file(uri: str, setting: str) -> bytes:
    """The content of a checkpoint or weights file: one of this folder, or at any URI.

    Raises:
        InputError: no checkpoint of this name ships; names those that do, and the setting.
        OSError: the file at the URI cannot be read.
    """
    if not uri.startswith(_BUILTIN):
        return read_bytes(uri)
    names = {file.name.removesuffix(_SUFFIX): file for file in files(__name__).iterdir() if file.name.endswith(_SUFFIX)}
    name = uri.removeprefix(_BUILTIN)
    if name not in names:
        known = ", ".join(_BUILTIN + known for known in sorted(names))
        raise InputError(setting, uri, f"no such checkpoint ships with the package; known: {known}")
    return names[name].read_bytes()


def model_card_of(checkpoint_id: str) -> str | None:
    """The model card of a checkpoint that ships with the package; None for any other."""
    card = files(__name__).joinpath("README.md").read_text(encoding="utf-8")
    return card if f"`{checkpoint_id}`" in card else None
