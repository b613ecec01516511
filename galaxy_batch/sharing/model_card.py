"""README.md of a checkpoint: a model card as the Hugging Face hub reads it.

That of a checkpoint that ships with the package is the one beside it there; of any other, what its metadata say.
"""

import re
from collections.abc import Mapping
from typing import Any

from galaxy_batch.report.page import count
from galaxy_batch.sharing.description import SharedCatalog, markdown
from galaxy_batch.sharing.front_matter import license_entries, with_front_matter

__all__ = ["MODEL_CARD", "model_card"]

MODEL_CARD = "model/README.md"

_LOCAL_LINK = re.compile(r"\[([^\]]*)\]\((?!https?://)[^)]*\)")


def model_card(catalog: SharedCatalog) -> bytes:
    """The content of `model/README.md`."""
    known = catalog.checkpoint_license
    entries = {
        **license_entries(known),
        "library_name": "galaxy_batch",
        "pipeline_tag": "image-classification",
        "tags": [*catalog.about.keywords, "image-classification", "timm"],
    }
    shipped = catalog.checkpoint_card
    text = _LOCAL_LINK.sub(r"\1", shipped) if shipped else markdown("model_card.md", **_values(catalog))
    return with_front_matter(entries, text)


def _values(catalog: SharedCatalog) -> dict[str, Any]:
    checkpoint = catalog.checkpoint
    training = checkpoint.get("training") or {}
    weights = str((training.get("network") or {}).get("weights", ""))
    known = {"pretrained": "ImageNet, from timm's hub", "random": "random"}
    return {
        "model_id": catalog.manifest.model_id,
        "checkpoint": checkpoint,
        "spec": checkpoint["spec"],
        "questions": [question.title for question in catalog.manifest.questions],
        "weights": known.get(weights, weights),
        "votes": _votes(checkpoint.get("label_rule") or {}),
        "versions": ", ".join(f"{name} {version}" for name, version in (training.get("versions") or {}).items()),
        "license": catalog.checkpoint_license,
        "galaxies": [f"{count(rows)} {name}" for name, rows in (training.get("galaxies") or {}).items()],
        "splits": training.get("galaxies_per_split") or {},
        "verdicts": bool(training.get("verdicts")),
        "threshold": (checkpoint.get("label_rule") or {}).get("threshold"),
        "promised": catalog.promised,
    }


def _votes(label_rule: Mapping[str, Any]) -> str:
    """Where the labels come from, as far as the checkpoint says."""
    if label_rule.get("columns"):
        return "columns " + ", ".join(f"`{column}` ({name})" for name, column in label_rule["columns"].items())
    names = ("table", "question", "votes") if label_rule.get("table") == "gz2" else ("table", "question")
    return ", ".join(f"{name} `{label_rule[name]}`" for name in names if label_rule.get(name))
