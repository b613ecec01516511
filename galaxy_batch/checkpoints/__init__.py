"""Trained checkpoints that ship with the package; `README.md` here is their model card.

`builtin:NAME` as a checkpoint URI is the file `NAME.safetensors` of this folder.
"""

from importlib.resources import files

from galaxy_batch.errors import InputError

__all__ = ["BUILTIN", "read_builtin"]

BUILTIN = "builtin:"
"""Prefix of the URIs of these checkpoints."""

_SUFFIX = ".safetensors"


def read_builtin(uri: str) -> bytes:
    """The content of the checkpoint `builtin:NAME`.

    Raises:
        InputError: there is none of this name; names those that exist.
    """
    names = {file.name.removesuffix(_SUFFIX): file for file in files(__name__).iterdir() if file.name.endswith(_SUFFIX)}
    name = uri.removeprefix(BUILTIN)
    if name not in names:
        known = ", ".join(BUILTIN + known for known in sorted(names))
        raise InputError("checkpoint_uri", uri, f"no such checkpoint ships with the package; known: {known}")
    return names[name].read_bytes()
