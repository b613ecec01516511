import numpy as np

from galaxy_batch.model.output import ModelOutput
from galaxy_batch.rows import CATALOG_COLUMNS, MODEL_COLUMNS


def test_batches_are_joined_field_by_field() -> None:
    one = ModelOutput(np.ones((2, 3)), np.zeros(2), np.arange(2), np.ones((2, 5)), np.ones((2, 0)))
    both = ModelOutput.join([one, one.map(lambda array: array + 5)], np.concatenate)
    assert both.map(np.shape) == ModelOutput((4, 3), (4,), (4,), (4, 5), (4, 0))
    assert both.instability.tolist() == [0, 1, 5, 6]


def test_every_column_of_the_model_is_a_field() -> None:
    assert set(MODEL_COLUMNS) <= set(ModelOutput._fields)
    assert MODEL_COLUMNS == ("unfamiliarity", "instability")
    assert all(column.of_model == (column.name in ModelOutput._fields) for column in CATALOG_COLUMNS)
