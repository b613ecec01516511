import pickle

from galaxy_batch.errors import GateError, InputError


def test_an_input_error_says_field_value_and_remedy() -> None:
    assert str(InputError("split.fold", 9, "must be below 5")) == "split.fold = 9: must be below 5"


def test_long_values_are_cut() -> None:
    assert len(str(InputError("manifest", "x" * 5000, "shorter"))) < 400


def test_errors_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(InputError("a", [1], "b")))
    assert (error.field, error.value, error.remedy) == ("a", [1], "b")
    gate = pickle.loads(pickle.dumps(GateError("too many", {"rows": 3})))
    assert (str(gate), gate.summary) == ("too many", {"rows": 3})
