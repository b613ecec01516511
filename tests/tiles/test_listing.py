from pathlib import Path

import fsspec
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.tiles.listing import list_tiles


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_files_with_the_same_text_for_the_wildcards_are_bands_of_one_tile(tmp_path: Path) -> None:
    touch(tmp_path, "a1/x-i.fits", "a1/x-r.fits", "a1/x-g.fits", "b2/y-i.fits", "b2/y-g.fits", "b2/y-g.txt", "c-i.fits")
    tiles = list_tiles(("?[0-9]/*-i.fits", "?[0-9]/*-r.fits", "?[0-9]/*-g.fits"), str(tmp_path))
    named = [tuple(uri and uri.removeprefix(f"{tmp_path}/") for uri in tile.uris) for tile in tiles]
    assert named == [("a1/x-i.fits", "a1/x-r.fits", "a1/x-g.fits"), ("b2/y-i.fits", None, "b2/y-g.fits")]
    before = tiles[1].version
    touch(tmp_path, "b2/y-i.fits ")
    (tmp_path / "b2/y-i.fits").write_bytes(b"a new version of the file")
    assert list_tiles(("?[0-9]/*-i.fits", "?[0-9]/*-r.fits", "?[0-9]/*-g.fits"), str(tmp_path))[1].version != before


def test_folders_below_and_files_in_a_store() -> None:
    store = fsspec.filesystem("memory")
    for name in ("p/q/t-r.fits", "p/t-r.fits", "p/q/t-g.fits", "p/q/t-z.fits"):
        store.pipe_file(f"/survey/{name}", b"x")
    tiles = list_tiles(tuple(f"memory://survey/**/t-{band}.fits" for band in "zrg"), "/elsewhere")
    assert [tile.uris for tile in tiles] == [
        (None, "memory:///survey/p/t-r.fits", None),
        tuple(f"memory:///survey/p/q/t-{band}.fits" for band in "zrg"),
    ]


@pytest.mark.parametrize(
    ("template", "message"),
    [("*-u.fits", "no file matches"), ("http://localhost/*-u.fits", "a web server has no listing")],
)
def test_a_template_that_matches_nothing(template: str, message: str, tmp_path: Path) -> None:
    touch(tmp_path, "x-r.fits", "x-g.fits")
    with pytest.raises(InputError, match=message) as caught:
        list_tiles((template, "*-r.fits", "*-g.fits"), str(tmp_path))
    assert caught.value.field == "manifest.tiles.band_templates"
    assert caught.value.value == template
