"""Who is drawn: exact inclusion probabilities, the same rows wherever they are, none without an image."""

from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.review_queue.draw import Drawing
from tests.support.skies import manifest_with, sky_rows


def test_rows_without_an_image_are_never_drawn() -> None:
    rows = sky_rows(500)
    drawing = Drawing(ReviewQueueConfig("x", uniform=1000), manifest_with(), rows.schema)
    drawing.add(rows, 0, 0)
    drawn = drawing.rows(lambda places: rows.take([place.row for place in places]))
    assert len(drawn.rows) == 500 - rows["predicted_class"].null_count
    assert set(drawn.rows["status"].to_pylist()) == {"ok"}
