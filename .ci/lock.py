"""Update requirements.lock, and the constraints of pyproject.toml with it: `python .ci/lock.py [--upgrade]`.

The image, CI and `uv run` install the versions of requirements.lock: pip reads the file, uv the constraints. Versions
stay as they are unless pyproject.toml excludes them or `--upgrade` is given.
"""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

PYPROJECT, LOCK = Path("pyproject.toml"), Path("requirements.lock")
EXTRAS = ("cluster", "hf", "openvino", "query", "s3")
CONSTRAINTS = re.compile(r"^constraint-dependencies = \[.*?^\]", re.DOTALL | re.MULTILINE)


def write_constraints(requirements: list[str]) -> None:
    """Replace the list in pyproject.toml."""
    lines = textwrap.wrap(" ".join(f'"{requirement}",' for requirement in requirements), 116, break_on_hyphens=False)
    block = "\n".join(["constraint-dependencies = [", *(f"    {line}" for line in lines), "]"])
    PYPROJECT.write_text(CONSTRAINTS.sub(lambda _: block, PYPROJECT.read_text()))


def main(options: list[str]) -> None:
    """Resolve for Linux and the oldest supported Python, whose versions newer ones can install too."""
    write_constraints([])  # they would keep every version as it is
    command = ["uv", "pip", "compile", str(PYPROJECT), "--quiet", "--output-file", str(LOCK), "--group", "train"]
    command += [word for extra in EXTRAS for word in ("--extra", extra)]
    command += ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
    subprocess.run([*command, "--no-header", "--no-annotate", *options], check=True)
    write_constraints(LOCK.read_text().split())


if __name__ == "__main__":
    main(sys.argv[1:])
