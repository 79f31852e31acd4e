"""The built-in profiles: what each kind of certificate contains and how long it may live.

Source: RFC 5280 section 4.2.1 (usages), RFC 6960 section 4.2.2.2 (OCSP responders), RFC 3161 section 2.3 (time stamping),
RFC 8550 section 4.4 (S/MIME); CA/Browser Forum Baseline Requirements section 6.3.2 for the 398 days of servers.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from datetime import timedelta

from spork.errors import ConfigurationError
from spork.x509.names import NameKind
from spork.x509.profile import Profile, SubjectRule

SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"
OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"

_YEAR = timedelta(days=365)
_SIGN = frozenset({"digitalSignature"})
# Key transport is for RSA alone, and `extensions` asserts it for no other key; the same goes for agreement and ECDSA.
_SIGN_AND_TRANSPORT = frozenset({"digitalSignature", "keyEncipherment"})
_CA_USAGE = frozenset({"keyCertSign", "cRLSign"})
_NO_NAMES: frozenset[NameKind] = frozenset()

_TLS_SERVER = Profile(
    name="tls-server",
    description="A TLS server, by DNS name or address",
    key_usage=_SIGN_AND_TRANSPORT,
    extended_key_usage=(SERVER_AUTH,),
    default_validity=timedelta(days=90),
    max_validity=timedelta(days=398),
    name_kinds=frozenset({NameKind.DNS, NameKind.IP}),
)
_TLS_CLIENT = Profile(
    name="tls-client",
    description="A TLS client: a person or a service",
    key_usage=_SIGN,
    extended_key_usage=(CLIENT_AUTH,),
    default_validity=timedelta(days=90),
    max_validity=timedelta(days=825),
    subject=SubjectRule.REQUESTED,
    name_kinds=frozenset({NameKind.DNS, NameKind.IP, NameKind.URI, NameKind.EMAIL}),
    names_required=False,
)
_CODE_SIGNING = Profile(
    name="code-signing",
    description="A signer of programs and scripts",
    key_usage=_SIGN,
    extended_key_usage=(CODE_SIGNING,),
    default_validity=_YEAR,
    max_validity=3 * _YEAR,
    subject=SubjectRule.REQUESTED,
    name_kinds=frozenset({NameKind.EMAIL}),
    names_required=False,
    minimum_level="admin",
)
_EMAIL = Profile(
    name="email",
    description="A mailbox: S/MIME signatures and encryption",
    key_usage=_SIGN_AND_TRANSPORT | {"keyAgreement"},
    extended_key_usage=(EMAIL_PROTECTION,),
    default_validity=_YEAR,
    max_validity=timedelta(days=825),
    subject=SubjectRule.REQUESTED,
    name_kinds=frozenset({NameKind.EMAIL}),
)
_DEVICE = Profile(
    name="device",
    description="A device that authenticates itself as a client",
    # SCEP encrypts its answer to the device's own RSA key (RFC 8894 section 2.3), which is what keyEncipherment allows.
    key_usage=_SIGN_AND_TRANSPORT,
    extended_key_usage=(CLIENT_AUTH,),
    default_validity=_YEAR,
    max_validity=3 * _YEAR,
    subject=SubjectRule.REQUESTED,
    name_kinds=frozenset(NameKind),
    names_required=False,
)
_OCSP_SIGNING = Profile(
    name="ocsp-signing",
    description="A CA's delegated OCSP responder",
    key_usage=_SIGN,
    extended_key_usage=(OCSP_SIGNING,),
    default_validity=timedelta(days=7),
    # A sealed CA's responder is renewed by ceremony, each quarter.
    max_validity=timedelta(days=100),
    subject=SubjectRule.DECLARED,
    names_required=False,
    ocsp_no_check=True,
    revocation_urls=False,
    requestable=False,
    minimum_level="superadmin",
)
_TIMESTAMPING = Profile(
    name="timestamping",
    description="A time stamping authority (RFC 3161)",
    key_usage=_SIGN,
    extended_key_usage=(TIME_STAMPING,),
    critical_extended_key_usage=True,
    default_validity=3 * _YEAR,
    max_validity=11 * _YEAR,
    subject=SubjectRule.REQUESTED,
    name_kinds=_NO_NAMES,
    names_required=False,
    minimum_level="superadmin",
)
_ROOT = Profile(
    name="root",
    description="A root CA, signed by itself",
    key_usage=_CA_USAGE,
    extended_key_usage=(),
    default_validity=20 * _YEAR,
    max_validity=40 * _YEAR,
    ca=True,
    subject=SubjectRule.DECLARED,
    name_kinds=_NO_NAMES,
    names_required=False,
    revocation_urls=False,
    requestable=False,
    minimum_level="superadmin",
)
_POLICY_CA = replace(
    _ROOT,
    name="policy-ca",
    description="A CA between the root and the issuing CAs",
    default_validity=10 * _YEAR,
    max_validity=30 * _YEAR,
    revocation_urls=True,
)
_ISSUING_CA = replace(
    _POLICY_CA,
    name="issuing-ca",
    description="A CA that issues to end entities",
    default_validity=5 * _YEAR,
    max_validity=20 * _YEAR,
)
_CROSS = replace(
    _POLICY_CA,
    name="cross",
    description="Another CA's key and name, certified by this CA as well",
    default_validity=5 * _YEAR,
    max_validity=20 * _YEAR,
)
_LISTENER = replace(
    _TLS_SERVER,
    name="listener",
    description="This installation's own TLS listeners",
    requestable=False,
    minimum_level="superadmin",
)


def _administrator(level: str) -> Profile:
    """The level itself is a policy OID, which comes with the request (`policies`), not with the profile."""
    return Profile(
        name=f"admin-{level}",
        description=f"An administrator of level {level}",
        key_usage=_SIGN,
        extended_key_usage=(CLIENT_AUTH,),
        default_validity=timedelta(days=90),
        max_validity=timedelta(days=398),
        subject=SubjectRule.REQUESTED,
        name_kinds=frozenset({NameKind.EMAIL}),
        names_required=False,
        minimum_level="superadmin",
    )


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        _TLS_SERVER,
        _TLS_CLIENT,
        _CODE_SIGNING,
        _EMAIL,
        _DEVICE,
        _OCSP_SIGNING,
        _TIMESTAMPING,
        _ROOT,
        _POLICY_CA,
        _ISSUING_CA,
        _CROSS,
        _administrator("superadmin"),
        _administrator("admin"),
        _administrator("operator"),
        _administrator("viewer"),
        _LISTENER,
    )
}


def profile_named(name: str) -> Profile:
    """The built-in profile of that name. Raises ConfigurationError naming the nearest one, or all."""
    try:
        return PROFILES[name]
    except KeyError:
        nearest = difflib.get_close_matches(name, PROFILES, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(PROFILES)}."
        raise ConfigurationError(f"Unknown profile {name!r}; {hint}") from None
