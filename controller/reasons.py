"""The reasons of conditions and events: one vocabulary, each with the sentence that is shown where nothing more precise is known.

A reason's name is one word in CamelCase that programs compare; it never changes its meaning. docs/kubernetes.md lists them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One word and its sentence."""

    name: str
    sentence: str


# Every kind
INVALID = Reason("Invalid", "The spec cannot be used.")
UNAVAILABLE = Reason("Unavailable", "Something that is needed cannot be reached; it is tried again.")
DELETING = Reason("Deleting", "The object is being deleted.")
CONFLICT = Reason("Conflict", "Something of that name belongs to somebody else; nothing was changed.")

# Trust bundles
WAITING_FOR_TRUST = Reason("WaitingForTrust", "The root is not yet in every trust bundle that was asked for.")
REFUSED = Reason("Refused", "The API server does not allow it.")

# Issuer, ClusterIssuer, and whoever refers to one
ISSUER_READY = Reason("Ready", "It issues.")
CA_MISSING = Reason("CAMissing", "There is no such CA; declare it in a Hierarchy, or correct spec.ca.")
CA_NOT_READY = Reason("CANotReady", "The CA has no certificate yet; see the Hierarchy that declares it.")
CA_STOPPED = Reason("CAStopped", "The CA signs no more certificates; bind another one.")
CA_EXPIRED = Reason("CAExpired", "The certificate of the CA has expired; bind another one.")
PROFILE_NOT_ALLOWED = Reason("ProfileNotAllowed", "The CA does not offer a profile that is named in spec.profiles.")
NAMESPACE_NOT_ALLOWED = Reason("NamespaceNotAllowed", "The owner has not granted this to the namespace.")
ISSUER_MISSING = Reason("IssuerMissing", "The issuer that issuerRef names does not exist.")
ISSUER_NOT_READY = Reason("IssuerNotReady", "The issuer is not ready; its own conditions say why.")
LIVE_CERTIFICATES = Reason("LiveCertificates", "Certificates are alive; its deletion waits until they are not, or it is confirmed.")

# Requests of other APIs. The first four are cert-manager's own words.
PENDING = Reason("Pending", "The request waits; it is tried again.")
ISSUED = Reason("Issued", "The certificate was issued.")
FAILED = Reason("Failed", "The request was refused; ask anew.")
DENIED = Reason("Denied", "The request was denied and is never signed.")
MAY_NOT_REFERENCE = Reason("MayNotReference", "The user has no permission for the verb reference on the issuer.")

# Ingresses
BAD_ANNOTATION = Reason("BadAnnotation", "An annotation of the ingress cannot be used.")
BAD_TLS = Reason("BadTLS", "An entry of spec.tls cannot be used.")
CERTIFICATE_CREATED = Reason("CertificateCreated", "A Certificate was made for the ingress.")
CERTIFICATE_UPDATED = Reason("CertificateUpdated", "The Certificate of the ingress was brought up to date.")
CERTIFICATE_DELETED = Reason("CertificateDeleted", "The Certificate is no longer asked for by the ingress.")
CERTIFICATE_NOT_OURS = Reason("CertificateNotOurs", "A Certificate of that name belongs to somebody else.")
