"""Where passphrases come from: a file, a systemd credential, a Kubernetes Secret, or the terminal.

Never from an argument or the value of an environment variable: other users can read the first in the process list, and
the second is inherited by every child process and printed by crash reporters.

A passphrase file holds the current passphrase on its first line and, while a rotation is going on, the previous one on the
second. Exactly one newline at its end is not part of it.

Who may read the file:

- An ordinary file belongs to root or to the user that SPORK runs as, and its mode gives nothing to group or others (0600).
- A systemd credential (a file in `$CREDENTIALS_DIRECTORY`) is guarded by its folder and an access control list, whose mask
  shows as group bits, so those bits are not counted.
- A file of a Kubernetes Secret volume (recognised by the link through `..data`) is readable by others by default, but only
  within the container; set `defaultMode: 0400` all the same. It must not be writable by group or others.
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spork.errors import ConfigurationError

MAX_OCTETS = 1024
"""Longest passphrase, in octets. Longer ones add nothing: 43 random Base64 characters hold all that an AES-256 key can."""
MIN_NEW_OCTETS = 8
"""Shortest passphrase that a new key-encryption key is made from (SP 800-63B section 5.1.1.2 asks for 8 characters)."""
_MAX_FILE_OCTETS = 2 * MAX_OCTETS + 4

CREDENTIALS = {"online": "spork-passphrase", "sealed": "spork-sealed-passphrase"}
"""Names of the systemd credentials, by kind of key-encryption key."""


@dataclass(frozen=True, slots=True)
class Passphrases:
    """The current passphrase and, during a rotation, the previous one. Their text is not in `repr`.

    Python cannot clear immutable octets; whoever forgets the object leaves them to the allocator.
    """

    current: bytes = field(repr=False)
    previous: bytes | None = field(default=None, repr=False)
    source: Path | None = None
    """The file that they were read from; `reread` looks there again."""

    def __post_init__(self) -> None:
        for passphrase in self.candidates:
            _check(passphrase, "A passphrase")

    @property
    def candidates(self) -> tuple[bytes, ...]:
        """What to try, best first."""
        return (self.current,) if self.previous is None else (self.current, self.previous)

    def reread(self) -> Passphrases:
        """The file's present content, so that a running process follows a rotation; itself where there is no file."""
        return self if self.source is None else read_passphrases(self.source)


def read_passphrases(path: Path, *, environment: Mapping[str, str] | None = None) -> Passphrases:
    """Reads and checks a passphrase file.

    Raises ConfigurationError: missing, not a regular file, readable by others, empty, too long, more than two lines.
    """
    content = _guarded_content(path, os.environ if environment is None else environment)
    lines = content.removesuffix(b"\n").split(b"\n")
    if len(lines) > 2:
        raise ConfigurationError(
            f"{path}: a passphrase file has one line, or two during a rotation, and not {len(lines)}."
        )
    for number, line in enumerate(lines, 1):
        _check(line, f"{path}: line {number}")
    return Passphrases(lines[0], lines[1] if len(lines) == 2 else None, path)


def find_passphrases(
    kind: str,
    path: Path | None,
    *,
    terminal: bool = False,
    confirm: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Passphrases:
    """The passphrases of one kind of keys: the systemd credential if there is one, else the file, else the terminal.

    `terminal` allows to ask the person at the keyboard, `confirm` asks twice (for a passphrase that is set for the first
    time). Raises ConfigurationError naming the places that were looked at.
    """
    variables = os.environ if environment is None else environment
    folder = variables.get("CREDENTIALS_DIRECTORY")
    credential = Path(folder) / CREDENTIALS[kind] if folder else None
    for place in (credential, path):
        if place is not None and place.exists():
            return read_passphrases(place, environment=variables)
    if terminal and sys.stdin.isatty():
        return prompt_passphrase(kind, confirm=confirm)
    looked = " and ".join(str(place) for place in (path, credential) if place is not None) or "no file"
    variable = "SPORK_PASSPHRASE_FILE" if kind == "online" else "SPORK_SEALED_PASSPHRASE_FILE"
    raise ConfigurationError(
        f"There is no passphrase for the {kind} keys (looked at {looked}); write it into a file of mode 0600 and name "
        f"that file in {variable}."
    )


def prompt_passphrase(kind: str, *, confirm: bool = False, new: bool = False) -> Passphrases:
    """Asks at the terminal, without echo. Raises ConfigurationError if it is empty or the repetition differs."""
    first = _asked(f"{'New passphrase' if new else 'Passphrase'} of the {kind} keys: ")
    if confirm and _asked("The same once more: ") != first:
        raise ConfigurationError("The two passphrases differ; nothing was changed.")
    return Passphrases(first)


def check_new(passphrase: bytes) -> None:
    """Raises ConfigurationError for a passphrase that is too short to make a new key-encryption key from."""
    if len(passphrase) < MIN_NEW_OCTETS:
        raise ConfigurationError(f"A new passphrase must have at least {MIN_NEW_OCTETS} characters.")


def _asked(prompt: str) -> bytes:
    return getpass.getpass(prompt).encode("utf-8", "surrogateescape")


def _check(passphrase: bytes, where: str) -> None:
    if not passphrase:
        raise ConfigurationError(f"{where} is empty.")
    if len(passphrase) > MAX_OCTETS:
        raise ConfigurationError(f"{where} is longer than {MAX_OCTETS} octets.")
    # A carriage return or a NUL is nearly always an editor's doing, and would lock the keys for whoever types what they see.
    if any(octet < 0x20 or octet == 0x7F for octet in passphrase):
        raise ConfigurationError(f"{where} holds a control character, such as the carriage return of a Windows editor.")


def _guarded_content(path: Path, environment: Mapping[str, str]) -> bytes:
    try:
        # Non-blocking, or a named pipe without a writer would stop the process here for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"{path}: the passphrase file cannot be read: {error.strerror}.") from error
    try:
        # What is checked is what was opened: a name could be pointed elsewhere between a check and an opening.
        _check_guard(path, os.fstat(descriptor), environment)
        content = os.read(descriptor, _MAX_FILE_OCTETS + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_FILE_OCTETS:
        raise ConfigurationError(f"{path}: a passphrase file has at most {_MAX_FILE_OCTETS} octets.")
    return content


def _check_guard(path: Path, status: os.stat_result, environment: Mapping[str, str]) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{path}: a passphrase file must be a regular file.")
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigurationError(f"{path}: the passphrase file belongs to another user (uid {status.st_uid}).")
    exempt = _is_credential(path, environment) or _is_kubernetes_secret(path)
    forbidden = (stat.S_IWGRP | stat.S_IWOTH) if exempt else (stat.S_IRWXG | stat.S_IRWXO)
    if status.st_mode & forbidden:
        raise ConfigurationError(
            f"{path}: other users can read or change the passphrase file (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"run chmod 600 {path}.",
        )


def _is_credential(path: Path, environment: Mapping[str, str]) -> bool:
    folder = environment.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.resolve().parent == Path(str(folder)).resolve()


def _is_kubernetes_secret(path: Path) -> bool:
    data = path.parent / "..data"
    # The kubelet writes the files into a folder with a time stamp, links `..data` to it, and each file through `..data`.
    return data.is_symlink() and path.is_symlink() and path.resolve().parent == data.resolve()
