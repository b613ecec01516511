"""Writes and checks the page of a release."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from galaxy_batch.catalog.manifest import MANIFEST
from galaxy_batch.config import ReportConfig
from galaxy_batch.release_page.page import write_release_page
from tests.support.html_pages import Page

SECTIONS = [
    "Classes",
    "Sky coverage",
    "Accuracy",
    "Review flags",
    "Failures",
    "Example galaxies",
    "Decision tree",
    "Columns",
    "Queries",
    "Provenance",
]


def changed_manifest(catalog: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((catalog / MANIFEST).read_text())
    change(manifest)
    (catalog / MANIFEST).write_text(json.dumps(manifest))


def page_of(catalog: Path, **keywords: Any) -> tuple[str, Page]:
    report = keywords.pop("config", ReportConfig(cutouts=4))
    uri = write_release_page(str(catalog), str(catalog.parent / "report"), report, **keywords)
    assert uri == str(catalog.parent / "report" / "index.html")
    html = Path(uri).read_text()
    shown = Page(html)
    has_questions = bool(json.loads((catalog / MANIFEST).read_text())["checkpoint"].get("spec", {}).get("questions"))
    assert shown.headings == [name for name in SECTIONS if has_questions or name != "Decision tree"]
    assert {source for source in shown.sources if not source.startswith(("data:image/", "#"))} <= set(shown.links)
    assert not {"script", "link", "iframe", "object"} & set(shown.tags)
    assert html.count("<img ") == len(re.findall(r'<img [^>]*alt="[^"]+"', html))
    assert html.count("<svg ") == len(re.findall(r'<svg [^>]*aria-label="[^"]+"', html)) == 2 * len(shown.figures)
    assert not re.search(r"\bnan\b|None|\binf\b", shown.text)
    return html, shown
