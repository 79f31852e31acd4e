"""The program `spork`: the table of its commands, and how their errors become words and exit codes.

Nothing heavy may be imported here: `spork --help` answers from the table below, and a test watches over it.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from spork import __version__
from spork.cli.lazy import LazyCommand, LazyGroup

COMMANDS = {
    "up": LazyCommand("spork.cli.up:up", "Run everything on this machine from a folder of declarations."),
    "serve": LazyCommand("spork.cli.serve:serve", "Run the HTTP doors and their workers."),
    "controller": LazyCommand("spork.cli.controller:controller", "Run the operator of a Kubernetes cluster."),
    "migrate": LazyCommand("spork.cli.migrate:migrate", "Bring the database schema up to this version."),
    "pki": LazyCommand("spork.cli.pki:pki", "Validate, preview and build the declared hierarchy."),
    "cert": LazyCommand("spork.cli.cert:cert", "Issue, list, show, export and renew certificates."),
    "get": LazyCommand("spork.cli.get:get", "Show the resources of the folder that `spork up` runs."),
    "annotate": LazyCommand("spork.cli.get:annotate", "Say something to `spork up` about a resource of its folder."),
    "prune": LazyCommand("spork.cli.get:prune", "Delete resources whose files are gone, many at once."),
    "revoke": LazyCommand("spork.cli.revoke:revoke", "Revoke a certificate."),
    "crl": LazyCommand("spork.cli.crl:crl", "Show and publish revocation lists."),
    "ocsp": LazyCommand("spork.cli.ocsp:ocsp", "Ask an OCSP responder about a certificate."),
    "trust": LazyCommand("spork.cli.trust:trust", "Fetch a CA's root, pin it, and show what is trusted."),
    "key": LazyCommand("spork.cli.key:key", "Look after stored keys and their passphrases."),
    "admin": LazyCommand("spork.cli.admin:admin", "Issue, list and revoke administrators."),
    "audit": LazyCommand("spork.cli.audit:audit", "List and verify the audit log."),
}

EPILOG = """\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by policy or for lack of rights, 4 not found, 5 conflict with
what exists, 6 unavailable now, try again later. SPORK_DEBUG=1 adds the traceback to an error.
"""


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="spork", message="%(prog)s %(version)s")
def cli() -> None:
    """SPORK CA, a certificate authority."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with a documented exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: one sentence on standard error for a failure, never a traceback."""
    try:
        outcome = cli.main(
            args=None if arguments is None else list(arguments), prog_name="spork", standalone_mode=False
        )
    except (KeyboardInterrupt, click.Abort):
        click.echo("spork: interrupted", err=True)
        return 130  # What a shell reports for a program that SIGINT ended: 128 + 2.
    except BrokenPipeError:
        # The reader has gone, as in `spork audit list | head`. The interpreter must not find out a second time at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _report(error)
    # Outside of its standalone mode click hands over the code of Context.exit() or the command's own return value.
    return outcome if isinstance(outcome, int) else 0


def _report(error: BaseException) -> int:
    if os.environ.get("SPORK_DEBUG") == "1":
        traceback.print_exception(error)
    # A task group wraps even a single failure; what the user did is in the one exception inside.
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()  # The whole help: it has lines of its own.
        return error.exit_code
    if isinstance(error, click.ClickException):
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
        _say(error.format_message())
        return error.exit_code

    from spork.cli.exits import EXIT_OF_CODE, Exit
    from spork.errors import SporkError

    if isinstance(error, SporkError):
        # A hierarchy file with several faults has a line for each; every other error is one sentence.
        for line in getattr(error, "lines", (error.detail,)):
            _say(line)
        return EXIT_OF_CODE[error.code]
    if isinstance(error, OSError) and error.strerror is not None:
        _say(f"{error.strerror}: {error.filename}" if error.filename is not None else error.strerror)
        return Exit.FAILURE
    # The text of an exception that nobody foresaw may carry anything, so only its type is shown.
    _say(f"internal error ({type(error).__name__}); run the command again with SPORK_DEBUG=1 to see where.")
    return Exit.FAILURE


def _say(sentence: str) -> None:
    """Write one line to standard error. What a server or a file put into it must not steer the terminal."""
    printable = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in sentence)
    click.echo(f"spork: {printable}", err=True)
