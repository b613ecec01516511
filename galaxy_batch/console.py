"""The command `galaxy-batch`: every job of an installed package, `galaxy-batch build-catalog` for `jobs.build_catalog`.

A wheel holds `jobs` and `train` in a folder of this package, so that it adds no top-level names that other packages may
have too. This command puts that folder first on the import path of its own process and of the processes that it starts,
which include Ray's workers. In a checkout the folder is the root.
"""

import ast
import os
import runpy
import sys
from pathlib import Path

__all__ = ["jobs_folder", "main", "runs_job"]

runs_job = False
"""Whether this command has started a job in this process."""

_IN_WHEEL = "_commands"
_CONFIGS = "configs"


def main() -> int:
    """Run the job that the command line names, and exit as it does."""
    global runs_job
    folder = jobs_folder()
    jobs = _jobs(folder / "jobs")
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(_help(jobs))
        return 0
    if words[0] == _CONFIGS:
        return _show_config(folder / "jobs" / "configs", words[1:])
    module = words[0].replace("-", "_")
    if module not in jobs:
        print(f"galaxy-batch: no command {words[0]!r}; `galaxy-batch --help` lists them", file=sys.stderr)
        return 2
    sys.path.insert(0, str(folder))
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([others] if others else [])])
    sys.argv, runs_job = words, True
    runpy.run_module(f"jobs.{module}", run_name="__main__", alter_sys=True)
    return 0


def jobs_folder() -> Path:
    """The folder that holds `jobs` and `train`."""
    package = Path(__file__).parent
    return package / _IN_WHEEL if (package / _IN_WHEEL).is_dir() else package.parent


def _jobs(folder: Path) -> dict[str, str]:
    """The jobs, each with the first sentence of its docstring."""
    sentences = {}
    for file in [*folder.glob("*.py"), *folder.glob("*/__main__.py")]:
        text = file.read_text(encoding="utf-8")
        if 'if __name__ == "__main__":' in text:
            summary = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
            sentences[file.parent.name if file.stem == "__main__" else file.stem] = " ".join(summary.split())
    return dict(sorted(sentences.items()))


def _help(jobs: dict[str, str]) -> str:
    jobs = {**jobs, _CONFIGS: "List the configs that ship with the jobs; `configs NAME` prints one, to be copied."}
    lines = ["usage: galaxy-batch COMMAND …", "", "`galaxy-batch COMMAND --help` tells its arguments and settings.", ""]
    lines += [line for job, text in jobs.items() for line in (f"  {job.replace('_', '-')}", f"      {text}")]
    return "\n".join(lines)


def _show_config(folder: Path, words: list[str]) -> int:
    """Print one shipped config, or a line about each."""
    if not words:
        for file in sorted(folder.glob("*.toml")):
            print(f"{file.stem}: {file.read_text(encoding='utf-8').partition(chr(10))[0].lstrip('# ')}")
        return 0
    file = folder / f"{words[0].removesuffix('.toml')}.toml"
    if len(words) > 1 or not file.is_file():
        names = ", ".join(sorted(one.stem for one in folder.glob("*.toml")))
        print(f"galaxy-batch configs: give one of {names}", file=sys.stderr)
        return 2
    print(file.read_text(encoding="utf-8"), end="")
    return 0
