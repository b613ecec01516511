"""Layout of HTML pages, as the installed Chromium lays them out in a frame of a given width."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The frame stands for the window of a phone, which no window of a browser can be as narrow as.
_MEASURE = """
const named = element =>
  `${element.tagName} ${element.getAttribute("class") || ""} ${element.textContent.slice(0, 30)}`;
const visible = element => element.getClientRects().length > 0;
const scale = svg => svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
function textNodes(page) {
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT), nodes = [];
  while (walker.nextNode()) if (walker.currentNode.data.trim() && visible(walker.currentNode.parentElement))
    nodes.push(walker.currentNode);
  return nodes;
}
function brokenWords(node) {
  const range = node.ownerDocument.createRange();
  return [...node.data.matchAll(/[\\p{L}\\p{N}_]+/gu)].filter(word => {
    range.setStart(node, word.index); range.setEnd(node, word.index + word[0].length);
    return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1;
  }).map(word => word[0]);
}
function measure(frame) {
  const view = frame.contentWindow, page = view.document, nodes = textNodes(page);
  const sizes = nodes.map(node => [parseFloat(view.getComputedStyle(node.parentElement).fontSize)
    * scale(node.parentElement.ownerSVGElement), named(node.parentElement)]);
  return {
    too_wide: [...page.querySelectorAll("html, body, body *")].filter(element => visible(element)
      && element.scrollWidth > element.clientWidth && !element.ownerSVGElement
      && view.getComputedStyle(element).display !== "inline").map(named),
    smallest_text: sizes.reduce((a, b) => a[0] <= b[0] ? a : b),
    broken_words: nodes.filter(node => !node.parentElement.closest("svg, pre")).flatMap(brokenWords),
    ink: view.getComputedStyle(page.body).color,
  };
}
addEventListener("load", () => { document.getElementById("out").textContent =
  JSON.stringify([...document.querySelectorAll("iframe")].map(measure)); });
"""


def layouts(pages: Sequence[Path], width_px: int, folder: Path, dark: bool = False) -> list[dict[str, Any]]:
    """What is too wide, the smallest text in pixels, words broken inside, and the colour of the text, of each page.

    Args:
        pages: HTML files.
        width_px: of the frame.
        folder: for temporary files.
        dark: whether the browser prefers dark pages.
    """
    assert CHROMIUM is not None
    frames = (f'<iframe src="{escape(page.as_uri())}" width={width_px} height=800></iframe>' for page in pages)
    frame_page = folder / "frames.html"
    style = "<style>iframe { border: 0 }</style>"
    frame_page.write_text(f"{style}<script>{_MEASURE}</script>{''.join(frames)}<pre id=out></pre>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    options += [f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    dom = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", frame_page.as_uri()], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    measured: list[dict[str, Any]] = json.loads(unescape(dom.rpartition('<pre id="out">')[2].partition("</pre>")[0]))
    return measured
