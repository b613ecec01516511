import numpy as np

from galaxy_batch.report.pictures import cutout_picture, cutout_tile, grad_cam_picture


def test_pictures_are_jpeg_images_with_a_description() -> None:
    cutout = np.full((3, 16, 16), 90, np.uint8)
    values = np.linspace(0, 1, 256).reshape(16, 16)
    pictures = [
        cutout_picture(cutout, "cutout"),
        grad_cam_picture(cutout, values, "map"),
        grad_cam_picture(cutout, values, "map of the galaxy", values > 0.5),
        grad_cam_picture(cutout, np.full((16, 16), np.nan), "no map", np.zeros((16, 16), bool)),
    ]
    assert all(picture.content is not None and picture.content.startswith(b"\xff\xd8") for picture in pictures)
    plain, over, outlined, nothing = (picture.content for picture in pictures)
    assert len({plain, over, outlined}) == 3
    assert nothing == plain
    assert [picture.alt for picture in pictures] == ["cutout", "map", "map of the galaxy", "no map"]


def test_a_tile_has_the_id_and_a_caption() -> None:
    tile = cutout_tile(np.zeros((3, 8, 8), np.uint8), ("smooth", "0.7 / 0.3"), "17")
    assert (tile.object_id, tile.caption) == ("17", ("smooth", "0.7 / 0.3"))
    assert tile.pictures[0].alt == "Cutout of 17: smooth, 0.7 / 0.3"
