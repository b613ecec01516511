from pathlib import Path

import pyarrow as pa
import pytest

from galaxy_batch.config import ClassifyConfig
from galaxy_batch.model.engines.choose import make_engine
from galaxy_batch.model.saved_model import load_checkpoint
from galaxy_batch.synthetic.rendering import render
from jobs.benchmark.stage_rates import decode_rate, engine_rate, prepared_batches, read_rate
from tests.support.models import SavedModel

LIMITS = ClassifyConfig()


def test_reading_gives_the_bytes_of_the_cutouts_that_exist(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_bytes(bytes([number]) * 9)
    rows = pa.table({"object_id": range(6), "_image_uri": [str(tmp_path / f"{n}.jpg") for n in range(6)]})
    rate, contents = read_rate(rows, LIMITS, chunk_rows=4)
    assert rate > 0
    assert contents == [bytes([n]) * 9 for n in range(5)]


def test_batches_are_full_and_without_unreadable_cutouts(saved_model: SavedModel) -> None:
    spec = saved_model.checkpoint.spec
    contents = [render(0, seed=1), b"text", render(1, seed=1)]
    batches = prepared_batches(contents, spec, LIMITS, batch_size=4, batches=3)
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert all(cutout.shape == (3, spec.size_px, spec.size_px) for batch in batches for cutout in batch)
    assert decode_rate(contents, spec, LIMITS, threads=2) > 0
    with pytest.raises(ValueError, match="none of the cutouts"):
        prepared_batches([b"text"], spec, LIMITS, 4, 1)


@pytest.mark.parametrize("transfer", [False, True])
@pytest.mark.parametrize(("name", "views"), [("torch", 1), ("openvino", 1), ("openvino", 8)])
def test_the_rate_of_an_engine(saved_model: SavedModel, name: str, views: int, transfer: bool) -> None:
    checkpoint, model = load_checkpoint(saved_model.uri)
    batches = prepared_batches([render(0, seed=1)], checkpoint.spec, LIMITS, 4, 3)
    engine = make_engine(name, model, "fp32", batch_size=4, threads=1)  # type: ignore[arg-type]
    assert engine_rate(engine, batches, 0.1, transfer, views) > 10
