from galaxy_batch.catalog.layout import Layout, fingerprint


def test_every_path_is_below_release_and_model() -> None:
    layout = Layout("s3://b/out", "dr7", "abc123", "f00")
    assert layout.catalog == "s3://b/out/release=dr7/model=abc123/catalog"
    assert layout.parts == "s3://b/out/release=dr7/model=abc123/parts/f00"
    assert layout.sorted_rows(3) == "s3://b/out/release=dr7/model=abc123/exchange/f00/rows-000003.arrow"
    assert layout.tiles == "s3://b/out/release=dr7/model=abc123/tiles"
    assert layout.margin_rows(3) == "s3://b/out/release=dr7/model=abc123/exchange/f00/margin-000003.arrow"
    assert layout.sorted_ids(3) == "s3://b/out/release=dr7/model=abc123/exchange/f00/ids-000003.arrow"
    assert layout.run("r1") == "s3://b/out/release=dr7/model=abc123/runs/r1.json"


def test_the_fingerprint_depends_on_all_that_parts_are_made_from() -> None:
    base = fingerprint("m", "c", {"a": 1, "b": 2})
    assert fingerprint("m", "c", {"b": 2, "a": 1}) == base
    assert (
        len(
            {
                base,
                fingerprint("m2", "c", {"a": 1, "b": 2}),
                fingerprint("m", "c2", {"a": 1, "b": 2}),
                fingerprint("m", "c", {"a": 1}),
            }
        )
        == 4
    )
