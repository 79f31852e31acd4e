"""Ready hierarchy files, to be written out and then made one's own. Only TOML files and the functions that find them."""

from __future__ import annotations

from importlib.resources import files

from spork.errors import Code, SporkError
from spork.hierarchy.problems import did_you_mean


def preset_names() -> list[str]:
    """The names of all presets, sorted."""
    names = [entry.name for entry in files(__name__).iterdir() if entry.name.endswith(".toml")]
    return sorted(name.removesuffix(".toml") for name in names)


def preset_text(name: str) -> str:
    """The TOML text of a preset. Raises SporkError(NOT_FOUND) naming the nearest one."""
    if name not in preset_names():
        raise SporkError(Code.NOT_FOUND, f"There is no preset {name!r}{did_you_mean(name, preset_names())}")
    return (files(__name__) / f"{name}.toml").read_text("utf-8")


def preset_summary(name: str) -> str:
    """The first comment line of a preset: what the tree is for."""
    return preset_text(name).partition("\n")[0].removeprefix("#").strip()
