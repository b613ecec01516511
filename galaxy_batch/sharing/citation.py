"""CITATION.cff (Citation File Format 1.2.0) and .zenodo.json: who made a catalog, and how to cite it."""

import json
import re

from galaxy_batch.sharing.config import Author
from galaxy_batch.sharing.description import SharedCatalog
from galaxy_batch.sharing.front_matter import as_yaml

__all__ = ["CITATION", "ZENODO", "bibtex", "citation_cff", "citation_line", "zenodo_json"]

CITATION, ZENODO = "CITATION.cff", ".zenodo.json"


def citation_cff(catalog: SharedCatalog) -> bytes | None:
    """The content of `CITATION.cff`; None without authors, which it needs."""
    about = catalog.about
    if not about.authors:
        return None
    entries = {
        "cff-version": "1.2.0",
        "message": "If you use this catalog, please cite it as below, and the references of its README.md.",
        "type": "dataset",
        "title": catalog.title,
        "abstract": catalog.description,
        "authors": [_cff_author(author) for author in about.authors],
        "version": catalog.version,
        "date-released": catalog.date,
        "license": about.license,
        "doi": about.doi,
        "url": catalog.url,
        "repository-code": about.repository_url,
        "keywords": list(about.keywords),
    }
    return as_yaml({key: value for key, value in entries.items() if value}).encode()


def _cff_author(author: Author) -> dict[str, str]:
    entries = {
        "name": author.name,
        "family-names": author.family_names,
        "given-names": author.given_names,
        "orcid": f"https://orcid.org/{author.orcid}" if author.orcid else "",
        "affiliation": "" if author.name else author.affiliation,  # the format has none for entities
    }
    return {key: value for key, value in entries.items() if value}


def zenodo_json(catalog: SharedCatalog) -> bytes | None:
    """The content of `.zenodo.json`, metadata of a deposit on Zenodo; None without authors, which it needs."""
    about = catalog.about
    if not about.authors:
        return None
    related = [about.repository_url, catalog.hub_url if catalog.is_on_hub else None]
    entries = {
        "upload_type": "dataset",
        "title": catalog.title,
        "description": "".join(f"<p>{_html(text)}</p>" for text in catalog.description.split("\n\n")),
        "creators": [_zenodo_creator(author) for author in about.authors],
        "publication_date": catalog.date,
        "version": catalog.version,
        "license": about.license and about.license.lower(),
        "doi": about.doi,
        "keywords": list(about.keywords),
        "references": list(about.references),
        "notes": _html(about.acknowledgement.strip()),
        "related_identifiers": [
            {"identifier": uri, "relation": "isCompiledBy" if uri == about.repository_url else "isIdenticalTo"}
            for uri in related if uri
        ],
    }  # fmt: skip
    return (json.dumps({k: v for k, v in entries.items() if v}, indent=2, ensure_ascii=False) + "\n").encode()


def _zenodo_creator(author: Author) -> dict[str, str]:
    entries = {"name": author.sorting_name, "orcid": author.orcid, "affiliation": author.affiliation}
    return {key: value for key, value in entries.items() if value}


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def citation_line(catalog: SharedCatalog) -> str | None:
    """The catalog in a list of references; None without authors."""
    if not catalog.about.authors:
        return None
    names = "; ".join(author.sorting_name for author in catalog.about.authors)
    doi = f" https://doi.org/{catalog.about.doi}" if catalog.about.doi else ""
    return f"{names} ({catalog.date[:4] or 'undated'}). {catalog.title}, version {catalog.version}.{doi}"


def bibtex(catalog: SharedCatalog) -> str:
    """The catalog as an entry of BibTeX."""
    names = [
        f"{{{author.name}}}" if author.name else f"{{{author.family_names}}}, {author.given_names}".rstrip(", ")
        for author in catalog.about.authors
    ]
    key = re.sub(r"[^a-z0-9]", "", (catalog.about.authors[0].family_names or catalog.about.authors[0].name).lower())
    entries = {
        "author": " and ".join(names),
        "title": f"{{{catalog.title}}}",
        "year": catalog.date[:4],
        "version": catalog.version,
        "doi": catalog.about.doi,
        "url": catalog.url,
    }
    lines = [f"  {name} = {{{_tex(value)}}}" for name, value in entries.items() if value]
    return f"@misc{{{key}{catalog.date[:4]},\n" + ",\n".join(lines) + "\n}"


def _tex(text: str) -> str:
    """Text without the characters that TeX does not print; braces stay, for they keep capitals."""
    return re.sub(r"([&%$#_])", r"\\\1", text) if "://" not in text else text
