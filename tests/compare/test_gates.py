import dataclasses
import math

import pytest

from galaxy_batch.compare.gates import Gates, Measured, judge
from galaxy_batch.errors import InputError
from galaxy_batch.settings import parse_config

NAMES = [gate.name for gate in dataclasses.fields(Gates)]


def measured(value: float | None) -> dict[str, Measured]:
    return dict.fromkeys(NAMES, Measured(value, "here"))


def test_a_limit_is_included() -> None:
    gates = Gates(**dict.fromkeys(NAMES, 0.25))
    assert not any(gate.crossed for gate in judge(gates, measured(0.25)))
    assert all(gate.crossed for gate in judge(gates, measured(0.2501)))
    assert str(judge(gates, measured(0.5))[0]) == "max_flip_rate: 0.5 (here), the limit is 0.25"


def test_a_number_that_cannot_be_computed_crosses_its_gate() -> None:
    crossed = [gate for gate in judge(Gates(), measured(math.nan)) if gate.crossed]
    assert {gate.name for gate in crossed} == set(NAMES) - {"max_only_new_fraction"}
    assert "cannot be computed (here); set the limit to inf" in str(crossed[0])


def test_a_number_that_was_not_measured_crosses_no_gate() -> None:
    assert not any(gate.crossed for gate in judge(Gates(), measured(None)))


@pytest.mark.parametrize("value", [5.0, math.nan])
def test_inf_disables_a_gate(value: float) -> None:
    gates = parse_config(Gates, {}, [f"{name}=inf" for name in NAMES])
    judged = judge(gates, measured(value))
    assert not any(gate.crossed for gate in judged)
    assert all(gate.off and str(gate).endswith("off") for gate in judged)


@pytest.mark.parametrize("text", ["-0.1", "nan", "off"])
def test_other_limits_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="max_psi"):
        parse_config(Gates, {}, [f"max_psi={text}"])
