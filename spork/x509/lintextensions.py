"""Lint rules for what the extensions say, taken together and against the profile.

Source: RFC 5280 section 4.2; RFC 8410 section 5, RFC 8813 section 3 and RFC 9881 section 5 (key usage by kind of key);
RFC 6960 section 4.2.2.2 (OCSP responders); RFC 3161 section 2.3 (time stamping).
"""

from __future__ import annotations

from cryptography import x509

from spork.x509.extensions import key_usage_bits, location_extensions
from spork.x509.lintview import Rule, View
from spork.x509.profiles import OCSP_SIGNING, TIME_STAMPING
from spork.x509.spki import key_identifier

_NEVER_CRITICAL: tuple[type[x509.ExtensionType], ...] = (
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
    x509.AuthorityInformationAccess,
    x509.FreshestCRL,
)
_BITS = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
_SIGNING_BITS = frozenset({"digitalSignature", "nonRepudiation", "keyCertSign", "cRLSign"})


def _usage(view: View) -> frozenset[str] | None:
    """The asserted bits by the names of RFC 5280, or None without the extension."""
    usage = view.value(x509.KeyUsage)
    if usage is None:
        return None
    bits = {name for attribute, name in _BITS.items() if getattr(usage, attribute)}
    if usage.key_agreement:
        bits |= {"encipherOnly"} if usage.encipher_only else set()
        bits |= {"decipherOnly"} if usage.decipher_only else set()
    return frozenset(bits)


def _purposes(view: View) -> frozenset[str]:
    return frozenset(oid.dotted_string for oid in view.value(x509.ExtendedKeyUsage) or ())


def _never_critical(view: View) -> str | None:
    wrong = [kind.__name__ for kind in _NEVER_CRITICAL if view.critical(kind)]
    return f"{', '.join(wrong)} must not be critical" if wrong else None


def _ski_missing(view: View) -> str | None:
    return None if view.value(x509.SubjectKeyIdentifier) else "there is no subjectKeyIdentifier"


def _ski_not_of_key(view: View) -> str | None:
    identifier = view.value(x509.SubjectKeyIdentifier)
    if identifier is None or view.family is None or identifier.digest == key_identifier(view.spki):
        return None
    return "the subjectKeyIdentifier is not the SHA-1 of the public key"


def _aki_missing(view: View) -> str | None:
    identifier = view.value(x509.AuthorityKeyIdentifier)
    if view.self_signed or (identifier is not None and identifier.key_identifier):
        return None
    return "there is no authorityKeyIdentifier with a key identifier"


def _aki_not_of_issuer(view: View) -> str | None:
    identifier = view.value(x509.AuthorityKeyIdentifier)
    if identifier is None or identifier.key_identifier in (None, view.authority.subject_key_identifier):
        return None
    return "the authorityKeyIdentifier is not the issuer's subjectKeyIdentifier"


def _ca_basic_constraints(view: View) -> str | None:
    basic = view.value(x509.BasicConstraints)
    if not view.profile.ca or (basic is not None and basic.ca and view.critical(x509.BasicConstraints)):
        return None
    return "a CA certificate needs critical basicConstraints with cA"


def _leaf_with_ca_bit(view: View) -> str | None:
    basic = view.value(x509.BasicConstraints)
    return (
        "the profile is not one of a CA, but basicConstraints says so" if _is(basic) and not view.profile.ca else None
    )


def _is(basic: x509.BasicConstraints | None) -> bool:
    return basic is not None and basic.ca


def _ca_without_key_cert_sign(view: View) -> str | None:
    if _is(view.value(x509.BasicConstraints)) and "keyCertSign" not in (_usage(view) or ()):
        return "a CA certificate needs keyUsage with keyCertSign"
    return None


def _key_cert_sign_without_ca(view: View) -> str | None:
    if "keyCertSign" in (_usage(view) or ()) and not _is(view.value(x509.BasicConstraints)):
        return "keyCertSign is asserted without basicConstraints cA"
    return None


def _key_usage_missing(view: View) -> str | None:
    return None if _usage(view) else "there is no keyUsage, or none of its bits is set"


def _key_usage_not_critical(view: View) -> str | None:
    return "keyUsage should be critical" if _usage(view) is not None and not view.critical(x509.KeyUsage) else None


def _key_usage_of_ml_dsa(view: View) -> str | None:
    return _only_signing(view, "ml-dsa")


def _key_usage_of_ed25519(view: View) -> str | None:
    return _only_signing(view, "ed25519")


def _key_usage_of_ecdsa(view: View) -> str | None:
    wrong = (_usage(view) or frozenset()) & {"keyEncipherment", "dataEncipherment"} if view.family == "ecdsa" else ()
    return f"an ECDSA key cannot have {', '.join(sorted(wrong))}" if wrong else None


def _only_signing(view: View, family: str) -> str | None:
    wrong = (_usage(view) or frozenset()) - _SIGNING_BITS if view.family == family else ()
    return f"a key of the kind {family} only signs and cannot have {', '.join(sorted(wrong))}" if wrong else None


def _key_usage_beyond_profile(view: View) -> str | None:
    if view.family is None:
        return None
    extra = (_usage(view) or frozenset()) - key_usage_bits(view.profile, view.family)
    return f"the profile {view.profile.name} does not have {', '.join(sorted(extra))}" if extra else None


def _extended_key_usage_not_of_profile(view: View) -> str | None:
    # A CA's usages come from its own declaration and are held against its issuer's instead.
    if view.profile.ca or _purposes(view) == frozenset(view.profile.extended_key_usage):
        return None
    return f"extKeyUsage is not that of the profile {view.profile.name}"


def _responder_without_no_check(view: View) -> str | None:
    if OCSP_SIGNING in _purposes(view) and not view.profile.ca and view.value(x509.OCSPNoCheck) is None:
        return "an OCSP responder's certificate without revocation URLs needs OCSP nocheck"
    return None


def _time_stamping_not_alone(view: View) -> str | None:
    purposes = _purposes(view)
    if TIME_STAMPING not in purposes or view.profile.ca:
        return None
    alone = len(purposes) == 1 and view.critical(x509.ExtendedKeyUsage)
    return None if alone else "timeStamping must be the only extended key usage, and critical"


def _name_constraints_on_leaf(view: View) -> str | None:
    present = view.value(x509.NameConstraints) is not None
    return "nameConstraints belong into CA certificates only" if present and not view.profile.ca else None


def _name_constraints_not_critical(view: View) -> str | None:
    present = view.value(x509.NameConstraints) is not None
    return "nameConstraints must be critical" if present and not view.critical(x509.NameConstraints) else None


def _duplicate_policy(view: View) -> str | None:
    oids = [info.policy_identifier.dotted_string for info in view.value(x509.CertificatePolicies) or ()]
    return "a certificate policy is there twice" if len(oids) != len(set(oids)) else None


def _locations(view: View) -> str | None:
    """The shard in a CRL's URL must be the one whose CRL will list this serial; hence the comparison octet for octet."""
    if view.self_signed:
        return None
    expected = location_extensions(view.profile, view.authority, view.fields.serial_number)
    kinds = {"2.5.29.31", "2.5.29.46", "1.3.6.1.5.5.7.1.1"}
    present = {e.oid.dotted_string: e.value for e in view.fields.extensions or () if e.oid.dotted_string in kinds}
    if present == {e.oid.dotted_string: e.value for e in expected}:
        return None
    return "the locations of CRL, OCSP and issuer are not those of the issuing CA for this serial number"


EXTENSION_RULES = (
    Rule("rfc5280.must_not_be_critical", "error", _never_critical),
    Rule("rfc5280.ski_missing", "error", _ski_missing),
    Rule("spork.ski_not_of_key", "error", _ski_not_of_key),
    Rule("rfc5280.aki_missing", "error", _aki_missing),
    Rule("rfc5280.aki_not_of_issuer", "error", _aki_not_of_issuer),
    Rule("rfc5280.ca_basic_constraints", "error", _ca_basic_constraints),
    Rule("spork.leaf_with_ca_bit", "error", _leaf_with_ca_bit),
    Rule("rfc5280.ca_without_key_cert_sign", "error", _ca_without_key_cert_sign),
    Rule("rfc5280.key_cert_sign_without_ca", "error", _key_cert_sign_without_ca),
    Rule("rfc5280.key_usage_missing", "error", _key_usage_missing),
    Rule("rfc5280.key_usage_not_critical", "warning", _key_usage_not_critical),
    Rule("rfc9881.key_usage", "error", _key_usage_of_ml_dsa),
    Rule("rfc8410.key_usage", "error", _key_usage_of_ed25519),
    Rule("rfc8813.key_usage", "error", _key_usage_of_ecdsa),
    Rule("spork.key_usage_beyond_profile", "error", _key_usage_beyond_profile),
    Rule("spork.extended_key_usage_not_of_profile", "error", _extended_key_usage_not_of_profile),
    Rule("rfc6960.responder_without_no_check", "error", _responder_without_no_check),
    Rule("rfc3161.time_stamping_not_alone", "error", _time_stamping_not_alone),
    Rule("rfc5280.name_constraints_on_leaf", "error", _name_constraints_on_leaf),
    Rule("rfc5280.name_constraints_not_critical", "error", _name_constraints_not_critical),
    Rule("rfc5280.duplicate_policy", "error", _duplicate_policy),
    Rule("spork.locations_not_of_issuer", "error", _locations),
)
