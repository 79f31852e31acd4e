"""`spork up DIR`: everything on one machine, from a folder of declarations."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def up(directory: Path) -> None:
    """Run everything on this machine from the declarations in DIRECTORY.

    DIRECTORY holds hierarchy.toml, or resources in YAML as they go to Kubernetes, or both; and, if you like, spork.toml with
    settings (SPORK_* variables win over it). The first start makes the database, the trees, the management CA and the first
    administrator; later starts find them. Changes of the YAML files are carried out while it runs. State lies in SPORK_HOME
    (default ./.spork). Ctrl-C ends it.
    """
    from spork.cli.first_start import run_up
    from spork.cli.logs import configure_logging
    from spork.cli.runtime import run_loop
    from spork.keys.process import harden
    from spork.settings import load_settings

    file = directory / "spork.toml"
    settings = load_settings(file if file.exists() else None)
    configure_logging(settings)
    harden()
    run_loop(run_up(directory, settings))
