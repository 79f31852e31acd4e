"""Which CA a command talks to, and as whom: options, SPORK_* variables, or a context file as kubectl has one.

    current = "default"

    [contexts.default]
    server = "https://localhost:8444"
    admin_cert = "admin/superadmin.pem"
    admin_key = "admin/superadmin.key"
    ca_file = "trust/root.pem"

Relative paths are relative to the folder of the file. An option wins over a variable, and a variable over the file. The file
is SPORK_CONFIG, or `context.toml` in SPORK_HOME (default `./.spork`), which `spork up` writes.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from spork.errors import ConfigurationError

FILE_NAME: Final = "context.toml"
_KEYS: Final = ("server", "admin_cert", "admin_key", "ca_file")
_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a connection to the administration API needs."""

    server: str
    """Base URL, without a trailing slash and without /api/v1."""
    admin_cert: Path
    admin_key: Path
    ca_file: Path | None
    """PEM certificates that may stand above the server's certificate; None for those of the system."""


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """What the command line said; None where it said nothing."""

    server: str | None = None
    admin_cert: Path | None = None
    admin_key: Path | None = None
    ca_file: Path | None = None
    context: str | None = None


def context_options(command: _Command) -> _Command:
    """Adds the options of the connection to a command, which gets them as one argument `connection`."""

    def gathered(*args: Any, **options: Any) -> Any:
        names = ("server", "admin_cert", "admin_key", "ca_file", "context")
        connection = ContextOptions(**{name: options.pop(name) for name in names})
        return command(*args, connection=connection, **options)

    gathered.__name__, gathered.__doc__ = command.__name__, command.__doc__
    gathered.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
    file = click.Path(dir_okay=False, path_type=Path)
    options = (
        click.option("--server", envvar="SPORK_SERVER", metavar="URL", help="Base URL of the administration API."),
        click.option("--admin-cert", envvar="SPORK_ADMIN_CERT", type=file, help="Administrator's certificate, PEM."),
        click.option("--admin-key", envvar="SPORK_ADMIN_KEY", type=file, help="Its private key, PEM."),
        click.option("--ca-file", envvar="SPORK_CA_FILE", type=file, help="Certificates above the server's own, PEM."),
        click.option("--context", envvar="SPORK_CONTEXT", metavar="NAME", help="Entry of the context file."),
    )
    wrapped: Any = gathered
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


def resolve(options: ContextOptions, environment: Mapping[str, str] | None = None) -> Context:
    """Puts options and context file together.

    Raises ConfigurationError naming what is missing and where it could be given.
    """
    given = {key: getattr(options, key) for key in _KEYS if getattr(options, key) is not None}
    file = context_file(os.environ if environment is None else environment)
    # A complete command line needs no file, and must not fail over a broken one.
    complete = all(key in given for key in ("server", "admin_cert", "admin_key")) and options.context is None
    values = given if complete else _from_file(file, options.context) | given
    for key in ("server", "admin_cert", "admin_key"):
        if key not in values:
            option = "--" + key.replace("_", "-")
            raise ConfigurationError(
                f"There is no {option}: give it, set SPORK_{key.upper()}, or write it into {file}, as spork up does."
            )
    for key in ("admin_cert", "admin_key", "ca_file"):
        if key in values and not Path(values[key]).is_file():
            raise ConfigurationError(f"{values[key]}, given as {key}, does not exist or is not a file.")
    return Context(
        server=_base_url(str(values["server"])),
        admin_cert=Path(values["admin_cert"]),
        admin_key=Path(values["admin_key"]),
        ca_file=Path(values["ca_file"]) if "ca_file" in values else None,
    )


def resolve_server(options: ContextOptions, environment: Mapping[str, str] | None = None) -> tuple[str, Path | None]:
    """Base URL and trusted certificates alone, for who comes without an administrator's certificate.

    Raises ConfigurationError.
    """
    file = context_file(os.environ if environment is None else environment)
    given = {key: getattr(options, key) for key in ("server", "ca_file") if getattr(options, key) is not None}
    # As above: who names the server needs no file.
    values = given if "server" in given and options.context is None else _from_file(file, options.context) | given
    if "server" not in values:
        raise ConfigurationError(f"There is no --server: give it, set SPORK_SERVER, or write it into {file}.")
    ca_file = Path(values["ca_file"]) if "ca_file" in values else None
    if ca_file is not None and not ca_file.is_file():
        raise ConfigurationError(f"{ca_file}, given as ca_file, does not exist or is not a file.")
    return _base_url(str(values["server"])), ca_file


def context_file(environment: Mapping[str, str]) -> Path:
    """Where the context file is, whether it exists or not."""
    if named := environment.get("SPORK_CONFIG"):
        return Path(named).expanduser()
    return Path(environment.get("SPORK_HOME", ".spork")).expanduser() / FILE_NAME


def write_context(home: Path, server_url: str, cert: Path, key: Path, ca_file: Path, *, name: str = "default") -> Path:
    """Writes `home`/context.toml with one entry, and returns its path. Other entries of an existing file are kept.

    Raises OSError, and ConfigurationError for an existing file that cannot be read.
    """
    from spork.files import write_atomically

    file = home / FILE_NAME
    content = _read(file) if file.exists() else {}
    contexts: dict[str, Any] = dict(content.get("contexts", {}))
    contexts[name] = {
        "server": server_url,
        "admin_cert": _relative(cert, home),
        "admin_key": _relative(key, home),
        "ca_file": _relative(ca_file, home),
    }
    current = content.get("current", name)
    lines = [f"current = {_quoted(str(current))}"]
    for entry, values in sorted(contexts.items()):
        lines += ["", f"[contexts.{_quoted(entry)}]", *(f"{k} = {_quoted(str(v))}" for k, v in values.items())]
    write_atomically(file, ("\n".join(lines) + "\n").encode("utf-8"), 0o600)
    return file


def _from_file(file: Path, name: str | None) -> dict[str, Any]:
    if not file.exists():
        if name is not None:
            raise ConfigurationError(f"There is no context file {file}, so no context {name!r} either.")
        return {}
    content = _read(file)
    contexts = content.get("contexts", {})
    wanted = name or content.get("current") or (next(iter(contexts)) if len(contexts) == 1 else None)
    if wanted is None:
        return {}
    if wanted not in contexts:
        near = difflib.get_close_matches(str(wanted), list(contexts), 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(contexts) or 'none'}."
        raise ConfigurationError(f"{file}: there is no context {wanted!r}{hint}")
    return {
        key: value if key == "server" else (file.parent / Path(str(value)).expanduser())
        for key, value in contexts[wanted].items()
    }


def _read(file: Path) -> dict[str, Any]:
    """The file's content, checked. Unknown keys are errors that name the nearest one."""
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: not valid TOML: {error}.") from error
    _check_keys(file, "", content, ("current", "contexts"))
    contexts = content.get("contexts", {})
    if not isinstance(contexts, dict) or not all(isinstance(entry, dict) for entry in contexts.values()):
        raise ConfigurationError(f"{file}: contexts must be tables, such as [contexts.default].")
    for name, entry in contexts.items():
        _check_keys(file, f"contexts.{name}.", entry, _KEYS)
        for key, value in entry.items():
            if not isinstance(value, str):
                raise ConfigurationError(f"{file}: contexts.{name}.{key}: a text is expected.")
    return content


def _check_keys(file: Path, prefix: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}."
            raise ConfigurationError(f"{file}: unknown key {prefix}{key}{hint}")


def _base_url(text: str) -> str:
    """The URL without /api/v1 and trailing slashes. Only https makes sense where a certificate logs in."""
    base = text.strip().rstrip("/").removesuffix("/api/v1").rstrip("/")
    if not base.startswith("https://") or len(base) == len("https://"):
        raise ConfigurationError(f"{text!r} is not an https URL; the administration API speaks TLS only.")
    return base


def _relative(path: Path, home: Path) -> str:
    """Relative to the folder of the file where possible, so that the folder can be moved."""
    absolute, base = path.absolute(), home.absolute()
    return str(absolute.relative_to(base)) if absolute.is_relative_to(base) else str(absolute)


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped) + '"'
