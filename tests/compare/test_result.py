import json
import math

import numpy as np

from galaxy_batch.compare.gates import Gate
from galaxy_batch.compare.result import Rates, plain


def test_plain_values_are_json() -> None:
    value = {
        "rates": Rates("x", 1, 2, math.nan, 0.5, (0.0, 1.0), (0.1, math.inf)),
        "gates": [Gate("max_psi", math.inf, None, "", False)],
        "counts": np.arange(4).reshape(2, 2),
        "shares": np.array([0.5, np.nan]),
        "single": np.float64("nan"),
    }
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "rates": {
            "name": "x", "old": 1, "new": 2, "old_rate": None, "new_rate": 0.5, "old_interval": [0.0, 1.0],
            "new_interval": [0.1, None],
        },
        "gates": [{"name": "max_psi", "limit": None, "value": None, "where": "", "crossed": False}],
        "counts": [[0, 1], [2, 3]],
        "shares": [0.5, None],
        "single": None,
    }  # fmt: skip


def test_an_increase_is_new_minus_old() -> None:
    assert Rates("x", 1, 2, 0.1, 0.4, (0, 1), (0, 1)).increase == 0.4 - 0.1
