"""Arguments of jobs: settings by options, arguments in place of the config, and the help."""

import argparse
import dataclasses
import re
import sys
from pathlib import Path
from typing import Annotated

import pytest

from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import InputError
from galaxy_batch.settings import Range, Uri, load_config
from galaxy_batch.sharing.config import ShareConfig
from jobs.arguments import CommandLine, Shortcut
from jobs.help import settings_text


@dataclasses.dataclass(frozen=True)
class Cut:
    """A cut."""

    low: float
    """Lower limit."""
    high: Annotated[float, Range(0, 20_000)] = 5.0
    """Upper limit."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a job."""

    name: str = "a"
    """Name of it."""
    uri: Annotated[str, Uri] = "s3://x"
    columns: tuple[str, ...] = ()
    """Columns, in
    this order."""
    number: int | None = None
    cut: Cut | None = None
    """Rows within."""


LINE = CommandLine(
    "Do it.",
    Config,
    places={"uri": "PLACE"},
    shortcuts={
        "name": Shortcut(("TEXT",), ("name",), "its name"),
        "cut": Shortcut(("LOW", "HIGH"), ("cut.low", "cut.high"), "limits"),
        "columns": Shortcut(("A,B",), ("columns",), "columns"),
        "number": Shortcut(("N",), ("number",), "a number"),
        "words": Shortcut(("WORD", "[WORD]"), ("name",), "words"),
    },
)


def parse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["job", *arguments])
    return LINE.parse()


def load(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Config:
    parsed = parse(monkeypatch, *arguments)
    return load_config(Config, parsed.config, parsed.set)


def test_options_give_settings_their_exact_text(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["s3://y/z", "--name", 'true and "x"', "--cut", "-1", "7.5", "--columns", "a, b", "--number", "3"]
    assert load(monkeypatch, *given) == Config('true and "x"', "s3://y/z", ("a", "b"), 3, Cut(-1.0, 7.5))
    assert load(monkeypatch, "s3://y", "--words", "a", "b").name == "a b"
    assert load(monkeypatch, "s3://y", "--words", "a").name == "a"
    assert load(monkeypatch, "s3://y", "--name", "x", "--set", "name=y").name == "y"
    with pytest.raises(InputError, match="number = 'many': must be of type int"):
        load(monkeypatch, "s3://y", "--number", "many")


def test_a_toml_file_or_arguments_in_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "x.toml")
    Path(file).write_text('name = "b"\n[cut]\nlow = 1\n')
    assert load(monkeypatch, file) == Config("b", cut=Cut(1.0))
    assert load(monkeypatch, file, "--number", "1") == Config("b", number=1, cut=Cut(1.0))
    assert parse(monkeypatch, "nowhere.toml").config == "nowhere.toml"
    with pytest.raises(SystemExit) as ended:
        parse(monkeypatch, "a", "b")
    assert ended.value.code == 2
    assert "give PLACE or CONFIG.toml" in capsys.readouterr().err


def test_unset_leaves_out_settings_and_sections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = str(tmp_path / "x.toml")
    Path(file).write_text('name = "b"\n[cut]\nlow = 1\nhigh = 2\n')
    assert load(monkeypatch, file, "--unset", "name", "--unset", "cut.high") == Config(cut=Cut(1.0))
    assert load(monkeypatch, file, "--unset", "cut", "--unset", "number") == Config("b")
    assert load(monkeypatch, file, "--unset", "cut", "--set", "cut.low=4") == Config("b", cut=Cut(4.0))
    with pytest.raises(InputError, match=re.escape("--unset = 'cut.lo': unknown key; known in cut: low, high")):
        load(monkeypatch, file, "--unset", "cut.lo")


def test_the_help_lists_each_setting_with_type_default_and_meaning() -> None:
    text = settings_text(Config, 80)
    for line in (
        '  name  (text; default "a")\n      Name of it.\n',
        "  columns  (list of text; default [])\n      Columns, in this order.\n",
        "  number  (integer; optional)\n",
        "[cut] Rows within. Optional.\n",
        "  cut.low  (number; required in this section)\n      Lower limit.\n",
        "  cut.high  (number from 0 to 20_000; default 5)\n",
    ):
        assert line in text


def test_a_section_that_may_be_repeated_is_in_double_brackets() -> None:
    text = settings_text(ShareConfig, 80)
    assert "\n[[share.authors]] In the order of the citation" in text
    assert "\n  share.authors.orcid  (text; optional)" in text


@pytest.mark.parametrize("width", [40, 110])
def test_the_help_of_a_catalog_fits_the_terminal_and_cuts_nothing(width: int) -> None:
    text = settings_text(CatalogConfig, width)
    assert all(len(line) <= width or " " not in line.strip() for line in text.splitlines())
    words = " ".join(text.split())
    for meaning in (
        "release (text; required) Name of the survey release; part of the output's path and a column of the catalog.",
        "[manifest] The table of objects and the location of their cutouts, or a folder of cutouts.",
        'classify.precision ("auto" | "fp32" | "bf16"; default "auto") Floating-point format',
        "classify.rgb.scale (list of 3 × number from 1e-12 to 1e+12; default [1.0, 1.2, 1.8])",
    ):
        assert meaning in words
