"""The page of a queue, in a real browser: verdicts, files, keys, and what is hidden."""

import base64
import csv
import dataclasses
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from galaxy_batch.review_queue.attention import AttentionMaps
from galaxy_batch.review_queue.page import queue_identity, write_page
from galaxy_batch.review_queue.queue import ReviewQueue
from tests.support.queues import new_queue, publish_with_cutouts
from tests.support.review_pages import FIRST_ID, chromium, review_page, review_queue
from tests.support.skies import sky_rows

HOSTILE = "</script><img src=x onerror=\"document.title='run'\">'\u2028é"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> ReviewQueue:
    return review_page(tmp_path_factory.mktemp("review") / "first")


class Reader:
    """A person with a browser of their own."""

    def __init__(self, browser: Any, queue: ReviewQueue, **settings: Any) -> None:
        self.context = browser.new_context(**settings)
        self.context.set_default_timeout(5000)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.address = f"file://{queue.uri}/index.html"

    def __enter__(self) -> "Reader":
        self.page.goto(self.address)
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()
        assert not self.errors

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def text(self, name: str) -> str:
        content = self.page.locator(f"#{name}").text_content()
        return str(content)

    @property
    def position(self) -> str:
        return self.text("single-heading")

    def export(self) -> list[dict[str, str]]:
        with self.page.expect_download() as download:
            self.page.click("#export-button")
        self.content = Path(download.value.path()).read_bytes()
        self.file_name = download.value.suggested_filename
        return list(csv.DictReader(io.StringIO(self.content.decode())))

    def import_file(self, content: bytes, name: str = "verdicts.csv") -> str:
        self.page.set_input_files("#import-file", {"name": name, "mimeType": "text/csv", "buffer": content})
        self.page.wait_for_selector("#report[open]")
        report = self.page.inner_text("#report-text")
        self.press("Escape")
        return str(report)


def content_of(queue: ReviewQueue) -> dict[str, Any]:
    html = (Path(queue.uri) / "index.html").read_text()
    content: dict[str, Any] = json.loads(html.partition('id="queue">')[2].partition("</script>")[0])
    return content


def test_the_page_knows_the_queue(queue: ReviewQueue) -> None:
    content = content_of(queue)
    assert content["ids"] == [str(FIRST_ID + place) for place in range(12)]
    assert content["pictures"][:3] == ["pictures/000/00001.jpg", "pictures/000/00002.jpg", None]
    assert content["errors"] == {"2": "missing: no such file"}
    assert (content["ra"][:2], content["dec"][:2]) == ([None, 180.5], [None, -1.25])
    assert content["probabilities"] == [[0.9] * 12, [0.1] * 12]
    assert content["attention"] is None


def test_the_page_is_made_with_the_queue(tmp_path: Path) -> None:
    queue = new_queue(publish_with_cutouts(tmp_path, sky_rows(30, seed=8)), uniform=5)
    content = content_of(queue)
    assert content["ids"] == [str(object_id) for object_id in queue.rows["object_id"].to_pylist()]
    assert all((Path(queue.uri) / path).is_file() for path in content["pictures"])
    assert [name for name, _ in content["links"]] == ["SkyServer", "Legacy Surveys"]


def test_another_queue_of_the_same_name_has_another_identity(queue: ReviewQueue) -> None:
    later = dataclasses.replace(queue, record={**queue.record, "created": "2026-11-27T18:00:00Z"})
    assert queue_identity(later) != queue_identity(queue) == content_of(queue)["identity"]


def test_only_the_script_of_the_page_may_run(queue: ReviewQueue) -> None:
    html = (Path(queue.uri) / "index.html").read_text()
    policy = re.search(r"script-src '(sha256-\S+)';", html)
    script = html.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert policy[1] == f"sha256-{digest}"
    assert "http://" not in script
    assert "https://" not in script


def test_verdicts_are_typed_kept_exported_and_imported(browser: Any, queue: ReviewQueue) -> None:
    with Reader(browser, queue) as first:
        first.page.fill("#reviewer", 'Ada "L", Ph.D.')
        first.page.locator("#reviewer").blur()
        first.press("1", "f", "a", "4")  # a number or the first letter
        assert first.position == "Galaxy 5 of 12"
        first.page.reload()
        assert first.position == "Galaxy 5 of 12"
        assert first.text("progress-text") == "4 of 12 (1 smooth, 1 featured, 1 artifact, 1 unsure)"
        rows = first.export()
        content = first.content
    assert first.file_name == "verdicts-first-Ada-L-Ph-D.csv"
    assert [row["verdict"] for row in rows] == ["smooth", "featured", "artifact", "unsure"]
    assert [int(row["object_id"]) for row in rows] == [FIRST_ID + place for place in range(4)]
    assert {
        (row["reviewer"], row["queue"], row["release"], row["model_id"], row["prediction_shown"]) for row in rows
    } == {('Ada "L", Ph.D.', "first", "DR1", "abcd1234", "no")}
    assert [row["position"] for row in rows] == ["1", "2", "3", "4"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["time"]) for row in rows)
    with Reader(browser, queue) as second:
        assert second.text("progress-text") == "0 of 12"
        assert "4 verdicts added" in second.import_file(content)
        assert "4 were here already" in second.import_file(content)
        second.page.fill("#reviewer", 'Ada "L", Ph.D.')
        second.page.locator("#reviewer").blur()
        assert second.text("progress-text").startswith("4 of 12")
        second.export()
    assert second.content == content


def test_the_page_says_what_comes_after_the_last_verdict(browser: Any, tmp_path: Path) -> None:
    with Reader(browser, review_page(tmp_path / "first", rows=2)) as reader:
        reader.press("s")
        assert reader.text("notices") == ""
        reader.press("f")
        assert (
            reader.text("notices") == "Every galaxy has a verdict: Export CSV makes the file for jobs.import_verdicts."
        )
        reader.press("z")
        assert reader.text("notices") == ""


def test_verdicts_before_the_name_get_the_name(browser: Any, queue: ReviewQueue) -> None:
    with Reader(browser, queue) as reader:
        reader.press("s", "f")
        reader.page.fill("#reviewer", "Ada")
        reader.page.locator("#reviewer").blur()
        assert {row["reviewer"] for row in reader.export()} == {"Ada"}
        reader.page.fill("#reviewer", "Ben")  # another person begins at zero, and takes nothing over
        reader.page.locator("#reviewer").blur()
        assert reader.text("progress-text") == "0 of 12"
        assert [row["reviewer"] for row in reader.export()] == ["Ada", "Ada"]


def test_undo_and_taking_back(browser: Any, queue: ReviewQueue) -> None:
    with Reader(browser, queue) as reader:
        reader.press("s", "s", "ArrowLeft", "f", "z")
        assert reader.position == "Galaxy 2 of 12"
        assert reader.text("verdict-text") == "Verdict: smooth"
        reader.press("Control+z", "Backspace", "z")
        assert reader.text("progress-text") == "0 of 12"
        assert reader.page.is_disabled("#undo")
        reader.press("s", "ArrowLeft", "Delete")
        reader.page.reload()
        assert reader.text("verdict-text") == "No verdict yet"
        assert reader.export() == []


def test_moving(browser: Any, queue: ReviewQueue) -> None:
    with Reader(browser, queue) as reader:
        reader.press("End")
        assert reader.position == "Galaxy 12 of 12"
        reader.press("s")
        assert reader.position == "Galaxy 12 of 12"
        reader.press("Home", "s", "f", "Home", "n")
        assert reader.position == "Galaxy 3 of 12"
        for wanted, position in ((str(FIRST_ID + 7), 8), ("5", 5)):
            reader.press("/")
            reader.page.keyboard.type(wanted)
            reader.press("Enter")
            assert reader.position == f"Galaxy {position} of 12"
        reader.page.select_option("#filter", "=featured")
        assert reader.position == "Galaxy 2 of 12 (1 of 1 shown)"
        reader.page.fill("#jump-to", "99")
        reader.press("Enter")
        assert "no galaxy 99" in reader.text("notices")


def test_the_prediction_is_hidden_until_asked_for(browser: Any, queue: ReviewQueue) -> None:
    with Reader(browser, queue) as reader:
        reader.press("ArrowRight")
        assert not reader.page.is_visible("#prediction")
        assert "LOW_CONFIDENCE" not in reader.page.inner_text("body")
        assert "smooth" not in reader.page.get_attribute("#picture", "alt")
        reader.press("p")
        shown = reader.page.inner_text("#prediction")
        assert re.search(r"smooth\s+0.90\s+featured\s+0.10", shown)
        assert "LOW_CONFIDENCE; uniform" in shown
        reader.press("f", "f")
        assert not reader.page.is_visible("#prediction")
        assert reader.text("prediction") == ""
        assert [row["prediction_shown"] for row in reader.export()] == ["yes", "no"]


def test_attention_lies_over_what_the_network_sees(browser: Any, tmp_path: Path) -> None:
    queue = review_queue(tmp_path / "first")
    maps = {position: bytes([255] + [0] * 15) for position in range(2, 13)}
    write_page(queue, AttentionMaps(cells=4, crop_fraction=0.5, maps=maps))
    with Reader(browser, queue) as reader:
        assert reader.page.is_disabled("#attention-button")  # galaxy 1 has no map
        reader.press("ArrowRight")
        assert not reader.page.is_visible("#overlay")
        reader.press("v")
        reader.page.wait_for_function("document.getElementById('picture').complete")
        opacities = reader.page.evaluate("""() => {
            const canvas = document.getElementById('overlay');
            const data = canvas.getContext('2d').getImageData(0, 0, 4, 4).data;
            return Array.from({ length: 16 }, (_, at) => data[4 * at + 3]);
        }""")
        assert opacities[0] > 150
        assert not any(opacities[1:])
        picture, overlay = (reader.page.locator(f"#{name}").bounding_box() for name in ("picture", "overlay"))
        assert overlay["width"] == pytest.approx(picture["width"] / 2, abs=1)
        assert overlay["x"] == pytest.approx(picture["x"] + picture["width"] / 4, abs=1)
        reader.press("v")
        assert not reader.page.is_visible("#overlay")


def test_zoom_and_stretch(browser: Any, queue: ReviewQueue) -> None:
    def brightness(reader: Reader) -> int:
        """Of the sky beside the disc, as on the screen."""
        box = reader.page.locator("#layers").bounding_box()
        clip = {"x": box["x"] + box["width"] / 2 - 2, "y": box["y"] + box["height"] / 2 - 2, "width": 4, "height": 4}
        png = base64.b64encode(reader.page.screenshot(clip=clip)).decode()
        value: int = reader.page.evaluate(
            """async (png) => {
            const bytes = Uint8Array.from(atob(png), (character) => character.charCodeAt(0));
            const bitmap = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
            const context = new OffscreenCanvas(4, 4).getContext('2d');
            context.drawImage(bitmap, 0, 0);
            return context.getImageData(1, 1, 1, 1).data[0];
        }""",
            png,
        )
        return value

    with Reader(browser, queue) as reader:
        reader.page.wait_for_function("document.getElementById('picture').complete")
        plain = brightness(reader)
        reader.press("t")
        assert brightness(reader) > plain + 20  # faint light
        reader.page.reload()
        reader.page.wait_for_function("document.getElementById('picture').complete")
        assert brightness(reader) > plain + 20  # is kept
        reader.press("0")
        assert brightness(reader) == plain
        side = reader.page.locator("#picture").bounding_box()["width"]
        reader.press("+", "+")
        assert reader.page.locator("#picture").bounding_box()["width"] == pytest.approx(2.25 * side, rel=0.01)
        reader.press("ArrowRight")
        assert reader.page.locator("#picture").bounding_box()["width"] == pytest.approx(2.25 * side, rel=0.01)
        reader.press("0")
        assert reader.page.locator("#picture").bounding_box()["width"] == pytest.approx(side)


def test_the_grid(browser: Any, queue: ReviewQueue) -> None:
    def focused(reader: Reader) -> str:
        return str(reader.page.evaluate("document.activeElement.getAttribute('aria-label')"))

    with Reader(browser, queue, viewport={"width": 1300, "height": 800}) as reader:
        reader.press("g")
        assert reader.page.locator(".tile").count() == 12
        reader.press("f")
        assert focused(reader) == f"Galaxy 2, {FIRST_ID + 1}: no verdict"
        reader.press("ArrowRight", "s", "ArrowLeft")
        assert focused(reader) == f"Galaxy 3, {FIRST_ID + 2}: smooth"
        reader.page.select_option("#brush", "artifact")
        tiles = reader.page.locator(".tile")
        tiles.nth(5).click()
        tiles.nth(6).click()
        tiles.nth(6).click()  # takes it back
        reader.press("Shift+1")
        assert reader.text("progress-text") == "12 of 12 (10 smooth, 1 featured, 1 artifact)"
        reader.press("z")
        assert reader.text("progress-text") == "3 of 12 (1 smooth, 1 featured, 1 artifact)"
        reader.page.select_option("#brush", "")
        tiles.nth(3).focus()
        tiles.nth(3).click()
        reader.press("Enter")
        assert reader.position == "Galaxy 4 of 12"
        reader.press("g", "Escape")
        assert reader.page.is_visible("#single")


def test_the_grid_has_pages(browser: Any, tmp_path: Path) -> None:
    with Reader(browser, review_page(tmp_path / "first", rows=200), viewport={"width": 900, "height": 600}) as reader:
        reader.press("g")
        tiles = reader.page.locator(".tile").count()
        assert 8 <= tiles < 100
        reader.press("PageDown")
        assert reader.text("grid-heading").startswith(f"Galaxies {tiles + 1} to {2 * tiles}, page 2 of ")
        reader.press("s")
        assert reader.export()[0]["position"] == str(tiles + 1)


def test_missing_pictures_say_why(browser: Any, tmp_path: Path) -> None:
    queue = review_queue(tmp_path / "first")
    errors = [None, None, "missing: no such file", "the cutout has changed", *[None] * 8]
    place = queue.rows.column_names.index("picture_error")
    queue = dataclasses.replace(queue, rows=queue.rows.set_column(place, "picture_error", pa.array(errors)))
    write_page(queue)
    (tmp_path / "first" / "pictures" / "000" / "00002.jpg").unlink()
    with Reader(browser, queue) as reader:
        reader.press("ArrowRight")
        reader.page.wait_for_selector("#missing:has-text('file cannot be read: pictures/000/00002.jpg')")
        reader.press("ArrowRight")
        assert reader.text("missing") == "No picture: missing: no such file"
        reader.press("ArrowRight")
        assert not reader.page.is_visible("#missing")
        assert reader.text("picture-note") == "the cutout has changed"
        reader.press("ArrowRight")
        assert not reader.page.is_visible("#picture-note")
        reader.press("g")
        reader.page.wait_for_selector(".tile:has-text('file cannot be read')")
        assert "missing: no such file" in reader.page.locator(".tile").nth(2).inner_text()


def test_links_need_a_position(browser: Any, queue: ReviewQueue) -> None:
    def links(reader: Reader) -> list[str]:
        return [link.get_attribute("href") for link in reader.page.locator("#links a").all()]

    with Reader(browser, queue) as reader:
        assert links(reader) == [f"https://x.example/{FIRST_ID}"]
        reader.press("ArrowRight")
        assert links(reader)[0] == "https://skyserver.example/?ra=180.500000&dec=-1.250000"


def test_cutouts_with_a_location_are_linked(browser: Any, tmp_path: Path) -> None:
    queue = review_queue(tmp_path / "first", 4, links={})
    uris = ["https://a.org/c?ra=1&dec=2", str(tmp_path / "7 a.jpg"), None, "https://a.org/i /r https://a.org/g?sig=s"]
    rows = queue.rows.append_column("image_uri", pa.array(uris, pa.string()))
    queue = dataclasses.replace(queue, rows=rows)
    write_page(queue)
    shown = []
    with Reader(browser, queue) as reader:
        for _ in uris:
            links = reader.page.locator("#links a").all()
            shown.append([(link.inner_text(), link.get_attribute("href")) for link in links])
            reader.press("ArrowRight")
    assert shown[:3] == [[("cutout", uris[0])], [("cutout", "../7%20a.jpg")], []]
    assert shown[3] == [("red", "https://a.org/i"), ("green", os.path.relpath("/r", queue.uri))]


def test_files_that_are_refused_or_contradict(browser: Any, queue: ReviewQueue) -> None:
    header = "object_id,verdict,reviewer,time,queue,release,model_id,position,prediction_shown\r\n"
    line = "{},{},{},2026-11-26T18:00:00Z,{},DR1,abcd1234,1,no\r\n"
    with Reader(browser, queue) as reader:
        report = reader.import_file((header + line.format(FIRST_ID, "smooth", "Ada", "second")).encode())
        assert "refused: it is of another queue: its queue is second, here it is first" in report
        assert "no column object_id" in reader.import_file(b"id,class\n1,smooth\n")
        assert "none of its galaxies" in reader.import_file(b"object_id,verdict\n1,smooth\n")
        mixed = [(FIRST_ID, "smooth", "Ada"), (FIRST_ID, "featured", '"B, ""C"""'), (17, "smooth", "Ada"),
                 (FIRST_ID + 1, "spiral", "Ada")]  # fmt: skip
        content = "\ufeff" + header + "".join(line.format(*row, "first") for row in mixed)
        report = reader.import_file(content.encode())
        assert "2 verdicts added" in report
        assert "1 galaxy with contradicting verdicts" in report
        assert f'Galaxy 1, {FIRST_ID}: Ada smooth, B, "C" featured' in report
        assert re.search(r"1 galaxy not in this queue:\s+17", report)
        assert f"{FIRST_ID + 1}: spiral" in report
        later = content.replace("T18:", "T19:").replace(f"{FIRST_ID},smooth", f"{FIRST_ID},unsure")
        assert "2 replaced by later ones" in reader.import_file(later.encode())
        assert "2 older than those here" in reader.import_file(content.encode())
        reader.page.select_option("#filter", "contradictions")
        assert "(1 of 1 shown)" in reader.position


def test_hostile_text_is_only_text(browser: Any, tmp_path: Path) -> None:
    ids = [f"{HOSTILE}{place}" for place in range(4)]
    classes = [f"a {HOSTILE}", "b"]
    queue = review_queue(tmp_path / "first", 4, classes, ids, links={f"L{HOSTILE}": "https://x.example/{object_id}"})
    rows = queue.rows.drop_columns(["picture_error", "reason"])
    rows = rows.append_column("picture_error", pa.array([None, HOSTILE, HOSTILE, None]))
    rows = rows.append_column("reason", pa.array([HOSTILE] * 4))
    queue = dataclasses.replace(queue, rows=rows)
    write_page(queue)
    assert content_of(queue)["ids"] == ids
    with Reader(browser, queue) as reader:
        assert reader.text("object-id") == ids[0]
        reader.press("p")
        assert HOSTILE in reader.text("prediction")
        reader.press("1", "2", "g")
        assert ids[1] in str(reader.page.locator(".tile").nth(1).get_attribute("aria-label"))
        assert HOSTILE in reader.text("tiles")
        assert [row["object_id"] for row in reader.export()] == ids[:2]
        assert "2 were here already" in reader.import_file(reader.content, name=f"{HOSTILE.replace('/', '')}.csv")
        assert reader.page.title() == "Review: first"
        assert reader.page.locator("img[onerror]").count() == 0


def test_without_storage_there_is_a_warning(browser: Any, queue: ReviewQueue) -> None:
    reader = Reader(browser, queue)
    reader.context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } });"
    )
    with reader:
        assert "export your verdicts before you close it" in reader.text("notices")
        reader.press("s")
        assert len(reader.export()) == 1


def test_two_tabs_do_not_overwrite_each_other(browser: Any, queue: ReviewQueue) -> None:
    with Reader(browser, queue) as reader:
        other = reader.context.new_page()
        other.goto(reader.address)
        reader.press("s")
        other.keyboard.press("End")
        other.keyboard.press("f")
        reader.page.wait_for_selector("#progress-text:has-text('2 of 12')")
        reader.page.reload()
        assert reader.text("progress-text") == "2 of 12 (1 smooth, 1 featured)"


def test_narrow_and_touched(browser: Any, queue: ReviewQueue) -> None:
    settings = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with Reader(browser, queue, **settings) as reader:
        for _ in range(2):
            width = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
            assert reader.page.evaluate(width) <= 390
            for button in reader.page.locator("#verdicts button").all():
                box = button.bounding_box()
                assert box["height"] >= 44
                assert box["y"] + box["height"] <= 844  # seen without scrolling
            reader.page.tap("#verdicts button >> nth=1")
            reader.page.tap("#grid-button")
        assert reader.text("progress-text") == "2 of 12 (2 featured)"


def test_dark(browser: Any, queue: ReviewQueue) -> None:
    def paper(scheme: str) -> str:
        with Reader(browser, queue, color_scheme=scheme) as reader:
            return str(reader.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert (paper("light"), paper("dark")) == ("rgb(255, 255, 255)", "rgb(20, 23, 27)")


def test_names_for_a_screen_reader_and_visible_focus(browser: Any, queue: ReviewQueue) -> None:
    with Reader(browser, queue) as reader:
        nameless = reader.page.evaluate("""() => [...document.querySelectorAll('button, input, select')].filter((one) =>
            !(one.getAttribute('aria-label') || one.textContent.trim() || (one.labels && one.labels.length)))
            .map((one) => one.id)""")
        assert nameless == []
        roles = reader.page.locator("body").aria_snapshot()
        for role in (
            "banner:",
            "main:",
            "contentinfo:",
            'navigation "Galaxies"',
            'group "Verdict"',
            "status",
            "progressbar",
        ):
            assert role in roles
        reader.press("s")
        assert reader.text("status") == "smooth: galaxy 1. Galaxy 2 of 12"
        reached = set()
        for _ in range(40):  # Tab passes every button, and shows where it is
            reader.press("Tab")
            name, outline = reader.page.evaluate("""() => {
                const focused = document.activeElement;
                return [focused.id || focused.dataset.verdict, getComputedStyle(focused).outlineStyle];
            }""")
            reached.add(name)
            assert outline == "solid" or name is None
        assert {
            "reviewer",
            "grid-button",
            "export-button",
            "prediction-button",
            "smooth",
            "unsure",
            "next",
            "undo",
        } <= reached
        reader.press("?")
        assert "next galaxy without a verdict" in reader.page.inner_text("#help")
        reader.press("s")  # no verdict while the help is open
        reader.press("Escape")
        assert not reader.page.is_visible("#help")
        assert reader.text("progress-text") == "1 of 12 (1 smooth)"


def test_keys_that_are_taken_stay_with_the_page(browser: Any, tmp_path: Path) -> None:
    """Classes with the same first letter, or that of a command, have their numbers only."""
    with Reader(browser, review_page(tmp_path / "q", classes=("ring", "spiral", "smooth", "peculiar"))) as reader:
        reader.press("p", "s", "p", "r", "4", "5")
        assert [row["verdict"] for row in reader.export()] == ["ring", "peculiar", "artifact"]
