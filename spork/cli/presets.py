"""`spork pki preset`: ready hierarchy files to start from."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def preset() -> None:
    """Ready hierarchy files to start from."""


@preset.command(name="list")
def preset_list() -> None:
    """Name the presets."""
    from spork.hierarchy.presets import preset_names, preset_summary

    names = preset_names()
    for name in names:
        click.echo(f"{name.ljust(max(map(len, names)))}  {preset_summary(name)}")


@preset.command(name="show")
@click.argument("name")
def preset_show(name: str) -> None:
    """Print a preset."""
    from spork.hierarchy.presets import preset_text

    click.echo(preset_text(name), nl=False)


@preset.command(name="write")
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default="hierarchy.toml")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def preset_write(name: str, file: Path, force: bool) -> None:
    """Write a preset to FILE (default: hierarchy.toml)."""
    from spork.files import write_atomically
    from spork.hierarchy.presets import preset_text

    try:
        write_atomically(file, preset_text(name).encode(), replace=force)
    except FileExistsError as error:
        raise click.ClickException(
            f"{file} exists already; choose another name, or overwrite it with --force."
        ) from error
    click.echo(f"{file} is written; edit it, then run `spork pki preview {file}`.")
