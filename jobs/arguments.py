"""Command line of a job: its arguments, and the options that give settings a value."""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, get_args, get_origin

from galaxy_batch.settings import Unset, setting_type
from jobs.help import description_text, settings_text, text_width

__all__ = ["CommandLine", "Shortcut"]


@dataclass(frozen=True)
class Shortcut:
    """An option that gives settings a value: `--cone RA DEC R` sets `cone.ra`, `cone.dec` and `cone.radius_deg`."""

    values: tuple[str, ...]
    """Names of the values in `--help`; the last may be left out where it is in brackets. None for one that sets its
    setting to true."""
    keys: tuple[str, ...]
    """One setting for each value, or one for all values, joined by blanks."""
    meaning: str


@dataclass(frozen=True)
class CommandLine:
    """Arguments of a job."""

    description: str | None
    """What the job does, with an example: the docstring of its module."""
    settings: type | None = None
    """Dataclass of its settings; None for a job without settings."""
    takes_config: bool = True
    """Whether settings are read from a TOML file."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Arguments that stand in place of the TOML file: setting -> name in `--help`."""
    other_places: Mapping[str, str] = field(default_factory=dict)
    """As `places`, another number of arguments."""
    shortcuts: Mapping[str, Shortcut] = field(default_factory=dict)
    """Options that give settings a value: `where` becomes `--where`."""
    positionals: Mapping[str, str] = field(default_factory=dict)
    """Arguments of a job without settings: name -> meaning."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Further options with a value: name -> meaning."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Further options without a value: name -> meaning."""

    def parse(self) -> argparse.Namespace:
        """Parse `sys.argv`; prints the help or an error and exits where there is nothing to run.

        A job with settings gets `config`, the TOML file or None, and `set`, the overrides for `load_config`.
        """
        parser = _Parser(self, usage=self._usage(), formatter_class=_Formatter, add_help=False)
        for name, meaning in self.positionals.items():
            parser.add_argument(name, metavar=name.upper(), help=meaning)
        if self.settings is not None and self.takes_config:
            words = " or ".join(self._placed)
            meaning = "settings of the job; `galaxy-batch configs` has examples"
            parser.add_argument(
                "inputs", nargs="+" if self.places else 1, metavar="CONFIG.toml",
                help=f"{meaning}. In its place: {words}, with the options below" if words else meaning,
            )  # fmt: skip
        for name, shortcut in self.shortcuts.items():
            if not shortcut.values:
                parser.add_argument(f"--{name}", action="store_const", const=["true"], help=shortcut.meaning)
                continue
            counted: int | str = "+" if shortcut.values[-1].startswith("[") else len(shortcut.values)
            parser.add_argument(f"--{name}", nargs=counted, metavar=" ".join(shortcut.values), help=shortcut.meaning)
        for name, meaning in self.options.items():
            parser.add_argument(f"--{name}", metavar=name.upper(), help=meaning)
        for name, meaning in self.flags.items():
            parser.add_argument(f"--{name}", action="store_true", help=meaning)
        if self.settings is not None:
            parser.add_argument(
                "--set", action="append", default=[], metavar="KEY=VALUE", help="give one setting; may be repeated"
            )
            parser.add_argument(
                "--unset", action="append", dest="set", type=Unset, metavar="KEY",
                help="leave out one setting or section of CONFIG.toml: its default applies; may be repeated",
            )  # fmt: skip
        parser.add_argument("-h", "--help", action="help", help="show this text and exit")
        parsed = parser.parse_args()
        if self.settings is not None:
            parsed.config, placed = self._inputs(parser, getattr(parsed, "inputs", []))
            parsed.set = [*placed, *self._shortened(parsed, self.settings), *parsed.set]
        return parsed

    def _usage(self) -> str:
        """The ways to call the job, one on each line."""
        given = " ".join(name.upper() for name in self.positionals)
        ways = [given] if given else (["CONFIG.toml"] if self.takes_config else [])
        ways += self._placed
        return "\n       ".join(" ".join(filter(None, (_program(), way, "[options]"))) for way in ways or [""])

    @property
    def _placed(self) -> list[str]:
        """The ways to name what would be in the TOML file, as `--help` shows them."""
        return [" ".join(way.values()) for way in (self.places, self.other_places) if way]

    def _inputs(self, parser: argparse.ArgumentParser, inputs: Sequence[str]) -> tuple[str | None, list[str]]:
        """The TOML file, or the overrides that the arguments in its place stand for."""
        if not self.takes_config:
            return None, []
        if len(inputs) == 1 and (not self.places or inputs[0].lower().endswith(".toml") or Path(inputs[0]).is_file()):
            return inputs[0], []
        places = next((way for way in (self.places, self.other_places) if len(way) == len(inputs)), None)
        if places is None:
            parser.error(f"give {' or '.join([*self._placed, 'CONFIG.toml'])}, not {len(inputs)} arguments")
        return None, [f"{key}={_quoted(text)}" for key, text in zip(places, inputs, strict=True)]

    def _shortened(self, parsed: argparse.Namespace, settings: type) -> Iterator[str]:
        """The overrides that the given shortcuts stand for."""
        for name, shortcut in self.shortcuts.items():
            texts = getattr(parsed, name.replace("-", "_"))
            if texts is not None:
                texts = texts if len(shortcut.keys) > 1 else [" ".join(texts)]
                for key, text in zip(shortcut.keys, texts, strict=True):
                    yield f"{key}={_as_toml(setting_type(settings, key, f'--{name}'), text)}"


class _Parser(argparse.ArgumentParser):
    """An argument parser whose help ends with the settings."""

    def __init__(self, line: CommandLine, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._line = line

    def format_help(self) -> str:
        width = text_width()
        self.description = description_text(_as_called(self._line.description or ""), width)
        settings = self._line.settings
        return super().format_help() + (settings_text(settings, width) if settings else "")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Each meaning on lines of its own, and the values of an option as they are named."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=6, width=text_width())

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return action.metavar if isinstance(action.metavar, str) else super()._format_args(action, default_metavar)


def _program() -> str:
    """How the job was called: `python -m jobs.JOB`, or `galaxy-batch JOB` where that started it."""
    main = sys.modules["__main__"].__spec__
    module = main.name if main else Path(sys.argv[0]).stem
    return _as_called(f"python -m {module.removesuffix('.__main__')}")


def _as_called(text: str) -> str:
    """The text with commands as the user called this one."""
    console = sys.modules.get("galaxy_batch.console")
    if console is None or not console.runs_job:
        return text
    return re.sub(r"python -m jobs\.(\w+)", lambda job: f"galaxy-batch {job[1].replace('_', '-')}", text)


def _as_toml(hint: object, text: str) -> str:
    """The text of an option as a TOML value of the annotated type; checked later, with the other settings."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple:
        return f"[{', '.join(_quoted(item.strip()) for item in text.split(','))}]"
    return _quoted(text) if hint is str else text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
