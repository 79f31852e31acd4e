"""Usages in the words of Kubernetes and cert-manager, and the profile of an issuer that asserts them.

Source: Kubernetes certificates.k8s.io/v1 KeyUsage, which cert-manager repeats; RFC 5280 sections 4.2.1.3 and 4.2.1.12.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spork.errors import Code, SporkError
from spork.policy.issuer import Issuer
from spork.x509.algorithms import Family
from spork.x509.profile import Profile
from spork.x509.profiles import (
    CLIENT_AUTH,
    CODE_SIGNING,
    EMAIL_PROTECTION,
    OCSP_SIGNING,
    SERVER_AUTH,
    TIME_STAMPING,
    profile_named,
)
from spork.x509.spki import family_of

_BITS = {
    "signing": "digitalSignature",
    "digital signature": "digitalSignature",
    "content commitment": "nonRepudiation",
    "key encipherment": "keyEncipherment",
    "key agreement": "keyAgreement",
    "data encipherment": "dataEncipherment",
    "encipher only": "encipherOnly",
    "decipher only": "decipherOnly",
}
_OF_A_CA = frozenset({"cert sign", "crl sign"})
_PURPOSES = {
    "any": "2.5.29.37.0",
    "server auth": SERVER_AUTH,
    "client auth": CLIENT_AUTH,
    "code signing": CODE_SIGNING,
    "email protection": EMAIL_PROTECTION,
    "s/mime": EMAIL_PROTECTION,
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": TIME_STAMPING,
    "ocsp signing": OCSP_SIGNING,
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}
_MAX_USAGES = 64


def check_usages(words: Sequence[str]) -> None:
    """Raises SporkError(BAD_CSR) for words that no issuer could ever fulfil."""
    if len(words) > _MAX_USAGES:
        raise SporkError(Code.BAD_CSR, f"There are more than {_MAX_USAGES} usages.")
    if found := sorted(_OF_A_CA & set(words)):
        raise SporkError(
            Code.BAD_CSR, f"The usage {found[0]!r} is that of a CA; CAs are declared in a Hierarchy and nowhere else."
        )
    if unknown := sorted({*words} - {*_BITS, *_PURPOSES}):
        raise SporkError(Code.BAD_CSR, f"The usage {unknown[0][:64]!r} is not known.")


def profile_for(issuer: Issuer, words: Sequence[str], purposes: Iterable[str], spki: bytes) -> Profile:
    """The issuer's first profile that asserts all of these usages, and the extended key usages (dotted OIDs) of the CSR.

    Raises SporkError: BAD_CSR as `check_usages`, POLICY_REFUSED if no profile does, BAD_PUBLIC_KEY.
    """
    check_usages(words)
    wanted_purposes = {_PURPOSES[word] for word in words if word in _PURPOSES} | set(purposes)
    wanted_bits = {_BITS[word] for word in words if word in _BITS}
    if family_of(spki) != "rsa":
        # Clients ask for it by habit. Only RSA keys encipher keys, so for any other key it means nothing.
        wanted_bits.discard("keyEncipherment")
    for profile in map(profile_named, issuer.profiles):
        if wanted_purposes <= set(profile.extended_key_usage) and wanted_bits <= profile.key_usage:
            return profile
    asked = ", ".join(dict.fromkeys(words)) or ", ".join(sorted(wanted_purposes))
    raise SporkError(
        Code.POLICY_REFUSED,
        f"No profile of the issuer {issuer.label} asserts all of the usages that are asked for ({asked}); "
        f"it offers {', '.join(issuer.profiles)}.",
    )


def usages_missing(profile: Profile, words: Sequence[str], family: Family) -> list[str]:
    """The usages among the words that certificates of the profile do not assert for a key of the family."""
    return [
        word
        for word in words
        if _PURPOSES.get(word) not in profile.extended_key_usage
        and _BITS.get(word) not in profile.key_usage
        # Asked for by habit, as above: it means nothing for keys that cannot encipher keys.
        and not (word == "key encipherment" and family != "rsa")
    ]
