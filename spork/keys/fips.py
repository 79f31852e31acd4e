"""What SPORK can truthfully say about FIPS 140: which module runs the algorithms, and what the policy switch does.

The switch (`fips` in the settings) makes SPORK accept approved algorithms only. It validates nothing: whether the code that
runs them is a validated module is decided by how `cryptography` was built and by the certificate of that build.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.bindings._rust import openssl as binding

from spork.x509.algorithms import ALGORITHMS


@dataclass(frozen=True, slots=True)
class FIPSReport:
    """For `spork key fips` and the status pages."""

    cryptography: str
    """Version of the Python package."""
    backend: str
    """The library inside it, as it names itself."""
    backend_kind: str
    """OpenSSL, AWS-LC, BoringSSL or LibreSSL."""
    fips_provider_enabled: bool
    """Whether that library says that it runs in its FIPS mode."""
    validated: bool
    """Always false: no build that SPORK ships or installs from the package index is a validated module, and SPORK cannot tell
    whether a build of yours is."""
    policy_switch: bool
    """Whether only approved algorithms are accepted."""
    approved_algorithms: tuple[str, ...]
    other_algorithms: tuple[str, ...]
    note: str


def fips_report(policy_switch: bool) -> FIPSReport:
    """The state of this process."""
    enabled = bool(binding.is_fips_enabled())
    return FIPSReport(
        cryptography=version("cryptography"),
        backend=backend.openssl_version_text(),
        backend_kind=_kind(),
        fips_provider_enabled=enabled,
        validated=False,
        policy_switch=policy_switch,
        approved_algorithms=tuple(row.name for row in ALGORITHMS if row.fips_approved),
        other_algorithms=tuple(row.name for row in ALGORITHMS if not row.fips_approved),
        note=_note(enabled, policy_switch),
    )


def _kind() -> str:
    if binding.CRYPTOGRAPHY_IS_AWSLC:
        return "AWS-LC"
    if binding.CRYPTOGRAPHY_IS_BORINGSSL:
        return "BoringSSL"
    return "LibreSSL" if binding.CRYPTOGRAPHY_IS_LIBRESSL else "OpenSSL"


def _note(enabled: bool, policy_switch: bool) -> str:
    policy = (
        "The policy accepts approved algorithms only."
        if policy_switch
        else "The policy switch is off: algorithms that are not approved are accepted too."
    )
    module = (
        "The library runs in its FIPS mode; whether this build has a certificate is for you to find out from its vendor."
        if enabled
        else "The library does not run in a FIPS mode; the module is not validated."
    )
    # Argon2id comes from another library, and no standard of NIST approves it for deriving keys from passphrases.
    return f"{policy} {module} Passphrases become keys by Argon2id, which FIPS 140 does not approve."
