"""HTML pages as a browser reads them."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, addresses and text of a page; fails where a tag is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        """Addresses that open in a new tab, without a way back to the page."""
        self.figures: list[str] = []
        """Label of each figure, once for both layouts."""
        self.text = ""
        self.feed(html)
        assert self.open == []
        self.headings = re.findall(r"<h2[^>]*>([^<]+)</h2>", html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag == "a" and dict(attributes).get("rel") == "noopener noreferrer":
            self.links.append(dict(attributes).get("href") or "")
        if tag == "svg" and "wide" in (dict(attributes).get("class") or ""):
            self.figures.append(dict(attributes).get("aria-label") or "")
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "svg"} & set(self.open):
            self.text += data

    @property
    def words(self) -> str:
        """The text with single spaces, also between the cells of a table."""
        return " ".join(self.text.split())
