"""Guards the build against a checkout whose links were not made; everything else is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup

LINKED_PACKAGES = ("hierarchy", "controller", "api")

for name in LINKED_PACKAGES:
    # Git writes a link as a small text file where the file system or core.symlinks does not allow links. A wheel built
    # from such a checkout would lack the package, and nobody would notice before running it. Source archives hold
    # folders instead of links, which is just as well.
    if not (Path(__file__).resolve().parent / "spork" / name / "__init__.py").is_file():
        sys.exit(
            f"spork/{name} is not a folder: this checkout was made without symbolic links. "
            "Check it out again on a file system that has them, with `git config core.symlinks true`."
        )

setup()
