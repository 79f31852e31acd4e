"""Rules about the certificate request: what it asks for beside the key must agree with what would be signed.

What is signed never comes from the request's extensions. The rules refuse what contradicts it, so that nobody receives a
certificate that silently differs from what they asked for.
"""

from __future__ import annotations

from cryptography import x509

from spork.policy.proposal import Door, Proposal, Violation
from spork.x509.names import SubjectName, from_general_name
from spork.x509.nametext import name_of_common_name
from spork.x509.profile import SubjectRule

# In these protocols the certificate request is all there is; elsewhere names may stand beside it, and it may bring the key only.
_ALL_IN_CSR = frozenset({Door.ACME, Door.EST, Door.SCEP, Door.CMP})


def csr_extensions_allowed(proposal: Proposal) -> list[Violation]:
    """Only extensions that the profile knows, and none that asks for more than it gives."""
    extensions = _extensions(proposal)
    if extensions is None:
        return [Violation("csr_extensions_allowed", "The extensions of the certificate request cannot be read.")]
    found = [
        Violation(
            "csr_extensions_allowed", f"The certificate request asks for the extension {oid}, which is not possible."
        )
        for oid in sorted({extension.oid.dotted_string for extension in extensions} - proposal.profile.csr_extensions)
    ]
    found += [
        Violation("csr_extensions_allowed", fault) for ext in extensions if (fault := _fault(ext.value, proposal))
    ]
    return found


def _fault(value: x509.ExtensionType, proposal: Proposal) -> str | None:
    profile = proposal.profile
    match value:
        case x509.BasicConstraints() if value.ca and not profile.ca:
            return "The certificate request asks for a CA certificate (basicConstraints)."
        case x509.KeyUsage() if (value.key_cert_sign or value.crl_sign) and not profile.ca:
            return "The certificate request asks for the key usages of a CA (keyCertSign, cRLSign)."
        case x509.ExtendedKeyUsage():
            given = profile.extended_key_usage
            if profile.ca and proposal.constraints is not None:
                given = proposal.constraints.extended_key_usage
            foreign = sorted({oid.dotted_string for oid in value} - set(given))
            if foreign:
                return (
                    f"The certificate request asks for the extended key usage {', '.join(foreign)}, which the profile "
                    f"{profile.name} does not give."
                )
    return None


def names_from_csr_not_smuggled(proposal: Proposal) -> list[Violation]:
    """The names of the request are the names of the certificate: none is added by it and none is lost.

    Its names are the alternative names and, where the profile's subject is a repeated name, a commonName that spells one.
    """
    if proposal.csr is None:
        return []
    extensions = _extensions(proposal)
    if extensions is None:
        return []  # Refused already, by the rule above.
    asked, unknown = _alternative_names(extensions)
    if unknown:
        return [
            Violation("names_from_csr_not_smuggled", "The certificate request has names of a kind that is not issued.")
        ]
    # Elsewhere the commonName belongs to a subject that the issuer's dn patterns judge.
    spelled = _common_names(proposal.csr) if proposal.profile.subject is SubjectRule.EMPTY_OR_CN else set()
    if not asked and not spelled and proposal.requester.door not in _ALL_IN_CSR:
        return []
    wanted = set(proposal.names)
    extra = [
        Violation(
            "names_from_csr_not_smuggled",
            f"The certificate request adds the {name.kind.value} name {name.value!r}.",
            name,
        )
        for name in sorted((asked | spelled) - wanted)
    ]
    missing = [
        Violation(
            "names_from_csr_not_smuggled",
            f"The certificate request lacks the {name.kind.value} name {name.value!r}.",
            name,
        )
        for name in sorted(wanted - asked - spelled - _repeated(proposal))
    ]
    return extra + missing


def _repeated(proposal: Proposal) -> set[SubjectName]:
    """A name without a dot, which a commonName may spell too, but which no commonName alone proves to be meant as a name."""
    if proposal.csr is None:
        return set()
    values = {str(one.value).lower() for one in proposal.csr.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
    return {name for name in proposal.names if name.value.lower() in values}


def _extensions(proposal: Proposal) -> x509.Extensions | None:
    if proposal.csr is None:
        return x509.Extensions([])
    try:
        return proposal.csr.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, Warning):
        return None


def _alternative_names(extensions: x509.Extensions) -> tuple[set[SubjectName], bool]:
    """The names, and whether there are some of a kind that SPORK does not issue."""
    try:
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set(), False
    known = [from_general_name(name) for name in names]
    return {name for name in known if name is not None}, None in known


def _common_names(csr: x509.CertificateSigningRequest) -> set[SubjectName]:
    texts = (str(attribute.value) for attribute in csr.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME))
    return {name for text in texts if (name := name_of_common_name(text)) is not None}
