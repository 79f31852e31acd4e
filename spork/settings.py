"""Settings: `SPORK_*` environment variables over one TOML file, read once into a frozen value.

A key `status_listen` of the file is `SPORK_STATUS_LISTEN` in the environment. Unknown keys are errors that name the nearest
match. Secrets are never settings, only the paths of files that hold them.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spork.errors import ConfigurationError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener binds."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of a process. Paths are absolute after `load_settings`."""

    home: Path = Path(".spork")
    """State folder: trust anchors, the first administrator's key, the bundled database."""
    database_url: str = ""
    """PostgreSQL 15 or later; empty means the bundled server under `home`."""
    passphrase_file: Path | None = None
    """Holds the passphrase of the online keys; a second line, the previous one during a rotation. Default: `home`/passphrase."""
    sealed_passphrase_file: Path | None = None
    """The same for the sealed keys of root and policy CAs. Default: `home`/sealed-passphrase. Never read by `spork serve`."""
    status_listen: Address = Address("127.0.0.1", 8080)
    enrol_listen: Address = Address("127.0.0.1", 8443)
    admin_listen: Address = Address("127.0.0.1", 8444)
    ops_listen: Address = Address("127.0.0.1", 8081)
    status_url: str = ""
    """External URL of the status address, without a trailing slash; by default http:// and its host and port."""
    enrol_url: str = ""
    admin_url: str = ""
    kubernetes_url: str = ""
    """API server that says whose a ServiceAccount's token is. Default: that of the cluster in which the process runs, if any."""
    kubernetes_token_file: Path | None = None
    """Token with which that API server is asked. Default: the one that Kubernetes puts into each pod."""
    kubernetes_ca_file: Path | None = None
    """Certificates above the API server's own. Default as above."""
    workers: int = 1
    """Processes that serve. Each is a full replica."""
    background: bool = True
    """Whether validation, outbox, CRL schedule and OCSP renewal run in this process."""
    acme_resolver: str = ""
    """DNS server for validation as host:port; empty means the system's own."""
    acme_http01_port: int = 80
    acme_tlsalpn01_port: int = 443
    acme_allowed_networks: tuple[Network, ...] = ()
    """Networks that the validators may reach beyond public addresses, for every issuer."""
    acme_rate_limits: bool = True
    drift_checks: bool = True
    """Whether the operator fetches the CAs' certificates from the status address, to compare them with what is declared."""
    fips: bool = True
    """Only algorithms that FIPS 140-3 approves are accepted. Says nothing of the module that runs them."""
    blocked_keys_file: Path | None = None
    """Fingerprints of keys that are known to others, such as Debian's weak ones (see `spork.policy.weakkeys`); none by default."""
    oid_base: str = "1.3.6.1.4.1.56266.1"
    """Arc of SPORK's own OIDs; administrator levels are `<base>.20.1` (viewer) to `<base>.20.4` (superadmin)."""
    log_format: str = "console"
    """console or json."""
    log_level: str = "info"

    def url_of_status(self) -> str:
        return self.status_url or f"http://{self.status_listen}"

    def url_of_enrol(self) -> str:
        return self.enrol_url or f"https://{self.enrol_listen}".replace("127.0.0.1", "localhost")

    def url_of_admin(self) -> str:
        return self.admin_url or f"https://{self.admin_listen}".replace("127.0.0.1", "localhost")


_NAMES = tuple(f.name for f in fields(Settings))
# Variables that steer other parts (the command line's context, tests, debugging) and are not settings of a process.
_OTHER_VARIABLES = frozenset({"debug", "server", "admin_cert", "admin_key", "ca_file", "context", "config", "complete"})


def load_settings(file: Path | None = None, environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Reads the TOML file (if given), then the environment, then the overrides that are not None.

    Raises ConfigurationError naming the file or variable, the key and the nearest valid word.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values |= _from_file(file)
    values |= _from_environment(os.environ if environment is None else environment)
    values |= {name: value for name, value in overrides.items() if value is not None}
    settings = replace(Settings(), **values)
    home = settings.home.absolute()
    return replace(
        settings,
        home=home,
        passphrase_file=settings.passphrase_file or home / "passphrase",
        sealed_passphrase_file=settings.sealed_passphrase_file or home / "sealed-passphrase",
    )


def _from_file(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file}: not valid TOML: {error}.") from error
    # Paths in a file are relative to that file, so that it means the same from every folder.
    known = {_known(key, str(file)): value for key, value in content.items()}
    return {key: _converted(f"{file}: {key}", key, value, file.parent) for key, value in known.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        key = variable.removeprefix("SPORK_").lower()
        if not variable.startswith("SPORK_") or key in _OTHER_VARIABLES or key.startswith("test_"):
            continue
        known = _known(key, variable)
        values[known] = _converted(variable, known, text, Path.cwd())
    return values


def _known(key: str, where: str) -> str:
    if key in _NAMES:
        return key
    near = difflib.get_close_matches(key, _NAMES, 1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ConfigurationError(f"{where}: unknown setting {key!r}{hint}")


def _converted(where: str, key: str, value: Any, base: Path) -> Any:
    default = getattr(Settings(), key)
    try:
        if key.endswith("_listen"):
            return _address(str(value))
        if key.endswith("_file") or key == "home":
            return (base / Path(str(value)).expanduser()).absolute()
        if key == "acme_allowed_networks":
            return _networks(value)
        if isinstance(default, bool):
            return _boolean(value)
        if isinstance(default, int):
            return _number(value, 65535 if key.endswith("_port") else 1024)
        if key in ("status_url", "enrol_url", "admin_url", "kubernetes_url"):
            return _url(str(value))
        if not isinstance(value, str):
            raise ValueError("a text is expected")
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}.") from error
    return value


def _number(value: object, most: int) -> int:
    """A port or a number of processes; text comes from the environment."""
    text = "" if isinstance(value, bool) else str(value)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise ValueError(f"{value!r} is not a whole number from 1 to {most}")
    return int(text)


def _address(text: str) -> Address:
    parts = urlsplit(f"//{text}")
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"{text!r} is not an address; write it as host:port, such as 127.0.0.1:8443")
    return Address(parts.hostname, parts.port)


def _networks(value: Any) -> tuple[Network, ...]:
    items = value if isinstance(value, list) else [part for part in str(value).replace(",", " ").split() if part]
    return tuple(ipaddress.ip_network(str(item)) for item in items)


def _boolean(value: Any) -> bool:
    known = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}
    word = str(value).lower()
    if word not in known:
        raise ValueError(f"{value!r} is neither on nor off")
    return known[word]


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not an http or https URL")
    return text.rstrip("/")
