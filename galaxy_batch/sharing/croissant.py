"""Croissant 1.0 (MLCommons), JSON-LD that search engines for data sets read: https://docs.mlcommons.org/croissant."""

import json
from typing import Any

import pyarrow as pa

from galaxy_batch.catalog.manifest import MANIFEST
from galaxy_batch.sharing.citation import citation_line
from galaxy_batch.sharing.config import Author
from galaxy_batch.sharing.description import CHECKPOINT, ColumnDescription, SharedCatalog
from galaxy_batch.sharing.files import CATALOG
from galaxy_batch.storage.files import join

__all__ = ["CROISSANT", "ROWS", "croissant"]

CROISSANT = "croissant.json"
ROWS = (f"{CATALOG}/dataset/**/*.parquet", f"{CATALOG}/without_position/*.parquet")
"""The files of rows; every object is in one of them, once."""

_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
_PARQUET = "application/x-parquet"


def croissant(catalog: SharedCatalog, sha256: dict[str, str]) -> bytes:
    """The content of `croissant.json`.

    Args:
        catalog: what is shared.
        sha256: of `manifest.json`, which has those of all files of the catalog, and of the checkpoint, by name.
    """
    about = catalog.about
    address = f"https://spdx.org/licenses/{about.license}.html" if about.license else None
    entries = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": catalog.title,
        "description": catalog.description,
        "version": catalog.version,
        "datePublished": catalog.date,
        "license": address,
        "url": catalog.url,
        "identifier": about.doi and f"https://doi.org/{about.doi}",
        "creator": [_creator(author) for author in about.authors],
        "citeAs": citation_line(catalog),
        "keywords": list(about.keywords),
        "distribution": [*_repository(catalog), *_file_objects(catalog, sha256), _file_set(catalog)],
        "recordSet": [_record_set(catalog)],
    }
    known = {key: value for key, value in entries.items() if value}
    return (json.dumps(known, indent=2, ensure_ascii=False) + "\n").encode()


def _creator(author: Author) -> dict[str, Any]:
    entries = {
        "@type": "sc:Organization" if author.name else "sc:Person",
        "name": author.title,
        "givenName": author.given_names,
        "familyName": author.family_names,
        "identifier": author.orcid and f"https://orcid.org/{author.orcid}",
        "affiliation": author.affiliation and {"@type": "sc:Organization", "name": author.affiliation},
    }
    return {key: value for key, value in entries.items() if value}


def _repository(catalog: SharedCatalog) -> list[dict[str, Any]]:
    """A repository of the hub, as the hub's own Croissant metadata have it; nothing for a folder or a store."""
    if not catalog.is_on_hub:
        return []
    return [
        {
            "@type": "cr:FileObject",
            "@id": "repo",
            "name": "repo",
            "contentUrl": f"{catalog.hub_url}/tree/main",
            "encodingFormat": "git+https",
            "sha256": "https://github.com/mlcommons/croissant/issues/80",  # what the hub writes for a repository
        }
    ]


def _file_objects(catalog: SharedCatalog, sha256: dict[str, str]) -> list[dict[str, Any]]:
    base = f"{catalog.hub_url}/resolve/main/" if catalog.is_on_hub else ""
    kinds = {join(CATALOG, MANIFEST): "application/json", CHECKPOINT: "application/octet-stream"}
    return [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": f"{base}{name}",
            "encodingFormat": kinds[name],
            "sha256": sha256[name],
        }
        for name in kinds
        if name in sha256
    ]


def _file_set(catalog: SharedCatalog) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "rows",
        "name": "rows",
        "description": f"All objects. The checksum of each file is in {CATALOG}/{MANIFEST}.",
        "encodingFormat": _PARQUET,
        "includes": list(ROWS),
        **({"containedIn": {"@id": "repo"}} if catalog.is_on_hub else {}),
    }


def _record_set(catalog: SharedCatalog) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "objects",
        "name": "objects",
        "description": "One record for each object of the survey's manifest.",
        "key": {"@id": "objects/object_id"},
        "field": [_field(column) for column in catalog.columns],
    }


def _field(column: ColumnDescription) -> dict[str, Any]:
    repeated = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
    remarks = [f"unit {column.unit}" if column.unit else "", f"UCD {column.ucd}" if column.ucd else ""]
    remark = ", ".join(filter(None, remarks))
    return {
        "@type": "cr:Field",
        "@id": f"objects/{column.name}",
        "name": column.name,
        "description": f"{column.description} ({remark})" if remark else column.description,
        "dataType": _data_type(column.type.value_type if repeated else column.type),
        **({"repeated": True} if repeated else {}),
        "source": {"fileSet": {"@id": "rows"}, "extract": {"column": column.name}},
    }


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
