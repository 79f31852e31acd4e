"""A click group whose commands are imported when they are used, and not before.

`spork --help` and completion must answer at once, but the modules behind the commands load cryptography, a database
driver and a web framework. So the group knows a name, a place and one line of help for each command, and imports only
what is called.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command lives, as `module:attribute`, and the line that stands for it in the list of commands."""

    target: str
    summary: str


class LazyGroup(click.Group):
    """A group over a fixed table of lazy commands."""

    def __init__(self, *, lazy_commands: Mapping[str, LazyCommand], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._lazy_commands = dict(lazy_commands)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order of the table, which follows a user's first day and not the alphabet."""
        return [*self._lazy_commands, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command.

        Raises click.ClickException, with a sentence for a person, if its module or a package that it needs is missing.
        """
        lazy = self._lazy_commands.get(cmd_name)
        if lazy is None:
            return super().get_command(ctx, cmd_name)
        module_name, _, attribute = lazy.target.partition(":")
        try:
            command = getattr(import_module(module_name), attribute)
        except ModuleNotFoundError as missing:
            if ctx.resilient_parsing:
                return None  # The user is pressing the tab key: no words of ours belong on the line.
            raise click.ClickException(_explain_missing(cmd_name, module_name, missing)) from missing
        if not isinstance(command, click.Command):
            raise TypeError(f"{lazy.target} is not a click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does, and name the nearest command if there is none of the given name."""
        if args and not ctx.resilient_parsing and args[0][:1].isalnum() and args[0] not in self.list_commands(ctx):
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table alone."""
        rows = [(name, lazy.summary) for name, lazy in self._lazy_commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete from the table alone; the options come from click."""
        items = [
            CompletionItem(name, help=lazy.summary)
            for name, lazy in self._lazy_commands.items()
            if name.startswith(incomplete)
        ]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]


def _explain_missing(cmd_name: str, module_name: str, missing: ModuleNotFoundError) -> str:
    if missing.name == module_name:
        return f"The command {cmd_name!r} is not part of this version of SPORK CA."
    if missing.name is not None and missing.name.partition(".")[0] == "spork":
        return f"The command {cmd_name!r} needs {missing.name}, which is not part of this version of SPORK CA."
    return (
        f"The command {cmd_name!r} needs the Python package {missing.name!r}, which is not installed; "
        "the optional parts of SPORK CA are listed in the README under installation."
    )
