"""Pseudonyms of the people who gave verdicts."""

import hashlib
import os
import secrets
from stat import S_IRUSR, S_IWUSR

from fsspec.implementations.local import LocalFileSystem

from galaxy_batch.errors import InputError
from galaxy_batch.storage.files import filesystem, read_bytes, write_atomically

__all__ = ["Reviewers", "read_key"]

_KEY_BYTES = 32
_SHOWN_BYTES = 5


class Reviewers:
    """How people are called in the tables.

    Args:
        key: secret key of the pseudonyms.
        names: whether people keep the names that they have in the files.
    """

    def __init__(self, key: bytes, names: bool) -> None:
        self._key, self.names = key, names
        self._known: dict[str, str] = {}

    def called(self, name: str) -> str:
        """The name, or its pseudonym: keyed BLAKE2b (RFC 7693), which nobody without the key can find by guessing."""
        if self.names:
            return name
        if name not in self._known:
            self._known[name] = f"reviewer-{self._digest(name)}"
        return self._known[name]

    def unnamed(self, first_record: str) -> str:
        """What a person without a name is called, by the first record of theirs."""
        return f"anonymous-{self._digest(first_record)}"

    def _digest(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=_SHOWN_BYTES).hexdigest()


def read_key(uri: str) -> bytes:
    """The key in a file; a random one is written where there is no file, which on a local disk only its owner may read.

    Raises:
        InputError: the file holds something else.
    """
    try:
        content = read_bytes(uri)
    except (FileNotFoundError, NotADirectoryError):
        write_atomically(uri, (secrets.token_hex(_KEY_BYTES) + "\n").encode())
        fs, path = filesystem(uri)
        if isinstance(fs, LocalFileSystem):
            os.chmod(path, S_IRUSR | S_IWUSR)
        content = read_bytes(uri)
    try:
        key = bytes.fromhex(content.decode().strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise InputError("key_uri", uri, f"is not a key: {2 * _KEY_BYTES} hexadecimal digits")
    return key
