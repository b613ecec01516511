"""Settings of sharing a catalog: where to, and what only people know about it."""

import re
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from galaxy_batch.errors import InputError
from galaxy_batch.settings import Uri

__all__ = ["HUB", "Author", "ShareConfig", "ShareMetadata"]

HUB = "hf://"
"""Beginning of the address of a repository on the Hugging Face hub."""

_ORCID = re.compile(r"(\d{4}-){3}\d{3}[\dX]")
_DOI = re.compile(r"10\.\d{4,9}/\S+")
_REPOSITORY = re.compile(r"hf://datasets/[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Author:
    """A person, or a collaboration."""

    family_names: str = ""
    """Of a person."""
    given_names: str = ""
    """Of a person."""
    name: str = ""
    """Of a collaboration or an institution, in place of the names of a person."""
    orcid: str | None = None
    """ORCID iD of a person, as in 0000-0002-1825-0097."""
    affiliation: str = ""
    """Institution of a person."""

    def __post_init__(self) -> None:
        person = bool(self.family_names or self.given_names)
        if person == bool(self.name) or (person and not self.family_names):
            shown = self.name or self.given_names or None
            raise InputError("share.authors", shown, "give family_names and given_names of a person, or the name of a "
                             "collaboration")  # fmt: skip
        if self.orcid is not None:
            _check_orcid(self.orcid)
            if self.name:
                raise InputError("share.authors.orcid", self.orcid, "only people have an ORCID iD; leave it out")

    @property
    def title(self) -> str:
        """The name as it is written in a text."""
        return self.name or f"{self.given_names} {self.family_names}".strip()

    @property
    def sorting_name(self) -> str:
        """The name as lists of authors have it: family names first."""
        return self.name or ", ".join(filter(None, (self.family_names, self.given_names)))


@dataclass(frozen=True)
class ShareMetadata:
    """What only people know about a catalog. What is left out is not written."""

    title: str = ""
    """Title. When not given, "Galaxy morphologies of" and the name of the release."""
    description: str = ""
    """A paragraph about the catalog, in plain text."""
    authors: tuple[Author, ...] = ()
    """In the order of the citation, a section for each. Without them, neither CITATION.cff nor .zenodo.json is written:
    both need authors."""
    license: str | None = None
    """Licence of the catalog: an SPDX identifier, such as CC-BY-4.0 or CC0-1.0."""
    checkpoint_license: str | None = None
    """Licence of the checkpoint: an SPDX identifier. When not given, that of the package, if the checkpoint ships with
    it."""
    doi: str | None = None
    """DOI that is reserved for or assigned to the catalog, as in 10.5281/zenodo.1234567."""
    version: str = ""
    """Version of the catalog. When not given, the name of the release."""
    url: str | None = None
    """Web page of the catalog."""
    repository_url: str | None = None
    """Repository of the code or of the configuration that made it."""
    keywords: tuple[str, ...] = ("astronomy", "galaxies", "galaxy morphology")
    """Words by which it is found; add those of the survey."""
    references: tuple[str, ...] = ()
    """What to cite too, a line each: the survey's paper, that of the votes the checkpoint was trained on."""
    acknowledgement: str = ""
    """Text that users of the survey's data are asked to print."""

    def __post_init__(self) -> None:
        for name in ("license", "checkpoint_license"):
            _check_license(f"share.{name}", getattr(self, name))
        for name in ("url", "repository_url"):
            _check_address(f"share.{name}", getattr(self, name))
        if self.doi is not None and not _DOI.fullmatch(self.doi):
            raise InputError("share.doi", self.doi, "not a DOI: write 10.5281/zenodo.1234567, without https://doi.org/")


@dataclass(frozen=True)
class ShareConfig:
    """Settings of sharing: a catalog, where to, and what only people know about it."""

    catalog_uri: Annotated[str, Uri]
    """Folder of a published catalog, which contains `manifest.json`. What belongs to the same collection, the margin
    cache and the indexes beside it, is shared with it."""
    to_uri: Annotated[str, Uri]
    """An empty or new folder, or a prefix of an object store, or a dataset repository of the Hugging Face hub:
    `hf://datasets/OWNER/NAME`. The same command again continues what was interrupted."""
    share: ShareMetadata = field(default_factory=ShareMetadata)
    """Title, authors, licence and other things that only people know."""
    with_checkpoint: bool = True
    """Whether the checkpoint is shared with the catalog."""
    checkpoint_uri: Annotated[str, Uri] | None = None
    """Where the checkpoint is. When not given, where it was when the catalog was made."""
    private: bool = True
    """Whether a repository that is created on the Hugging Face hub is private. It can be made public on its page, once
    somebody has looked at it."""

    def __post_init__(self) -> None:
        catalog, target = self.catalog_uri.rstrip("/"), self.to_uri.rstrip("/")
        if self.to_uri.startswith(HUB) and not _REPOSITORY.fullmatch(target):
            raise InputError("to_uri", self.to_uri, "write hf://datasets/OWNER/NAME: a repository holds one catalog")
        if f"{target}/".startswith(f"{catalog}/") or f"{catalog}/".startswith(f"{target}/"):
            raise InputError("to_uri", self.to_uri, "is inside the catalog, or contains it; choose another folder")


def _check_license(field: str, license_id: str | None) -> None:
    if license_id is None:
        return
    try:
        known = str(canonicalize_license_expression(license_id))
    except InvalidLicenseExpression:
        known = ""
    if known != license_id or " " in known or known.startswith("LicenseRef-"):
        hint = f"did you mean {known}?" if known and " " not in known and known != license_id else (
            "write one SPDX identifier, such as CC-BY-4.0, CC0-1.0 or BSD-3-Clause")  # fmt: skip
        raise InputError(field, license_id, f"not an SPDX licence identifier: {hint}")


def _check_orcid(orcid: str) -> None:
    """The form and the check digit of an ORCID iD (ISO 7064, mod 11-2)."""
    if not _ORCID.fullmatch(orcid):
        raise InputError("share.authors.orcid", orcid, "not an ORCID iD: write 0000-0002-1825-0097, without an address")
    digits = orcid.replace("-", "")
    total = 0
    for digit in digits[:-1]:
        total = 2 * (total + int(digit))
    if "0123456789X"[(12 - total % 11) % 11] != digits[-1]:
        raise InputError("share.authors.orcid", orcid, "its check digit is wrong: a digit is mistyped")


def _check_address(field: str, address: str | None) -> None:
    parts = urlsplit(address or "https://x")
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        raise InputError(field, address, "must be an http(s) address without credentials")
