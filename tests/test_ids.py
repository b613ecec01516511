import numpy as np
import pyarrow as pa

from galaxy_batch.ids import id_hashes, ids_checksum

NUMBERS = pa.chunked_array([np.arange(10_000) + 1_237_648_720_693_755_918])
TEXTS = pa.chunked_array([[f"J{number}" for number in range(10_000)]])


def test_hashes_are_unique_and_evenly_distributed() -> None:
    for ids in (NUMBERS, TEXTS):
        hashes = id_hashes(ids)
        assert len(np.unique(hashes)) == len(ids)
        sixteenths = np.bincount((hashes >> np.uint64(60)).astype(int), minlength=16)
        assert sixteenths.min() > 500


def test_hashes_do_not_depend_on_order_or_chunks() -> None:
    for ids in (NUMBERS, TEXTS):
        pieces = pa.chunked_array([ids.slice(0, 3).combine_chunks(), ids.slice(3).combine_chunks()])
        assert np.array_equal(id_hashes(pieces), id_hashes(ids))
        assert np.array_equal(id_hashes(ids.take(pa.array([5, 2]))), id_hashes(ids)[[5, 2]])


def test_hashes_never_change() -> None:
    """They are part of published manifests and determine the files of rows without a position."""
    assert id_hashes(pa.chunked_array([[1, 2**63 - 1]])).tolist() == [6238072747940578789, 6514504133438201533]
    assert id_hashes(pa.chunked_array([["a", "é"]])).tolist() == [13950350942979735504, 16908809132758853863]


def test_checksums_are_additive_and_differ_between_sets() -> None:
    hashes = id_hashes(NUMBERS)
    assert ids_checksum(hashes) == (ids_checksum(hashes[:99]) + ids_checksum(hashes[99:])) % 2**64
    assert ids_checksum(hashes[::-1]) == ids_checksum(hashes)
    assert ids_checksum(hashes[1:]) != ids_checksum(hashes)
    assert ids_checksum(hashes[:0]) == 0
