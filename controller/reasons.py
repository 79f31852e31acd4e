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
LIVE_CERTIFICATES = Reason(
    "LiveCertificates", "Certificates are alive; its deletion waits until they are not, or it is confirmed."
)

# Requests of other APIs. The first four are cert-manager's own words.
PENDING = Reason("Pending", "The request waits; it is tried again.")
REQUEST_ISSUED = Reason("Issued", "The certificate was issued.")
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

# Certificate: what is found, in the order in which it is looked for
ISSUED = Reason("Issued", "The Secret holds a valid certificate as the spec asks for it.")
SECRET_NOT_OURS = Reason("SecretNotOurs", "The Secret belongs to somebody else; nothing was changed.")
SECRET_NAME_TAKEN = Reason("SecretNameTaken", "Another Certificate has the same secretName.")
SECRET_MISSING = Reason("SecretMissing", "The Secret does not exist.")
SECRET_DAMAGED = Reason("SecretDamaged", "The Secret lacks a readable key or certificate.")
KEY_MISMATCH = Reason("KeyMismatch", "The private key in the Secret is not that of the certificate.")
CERTIFICATE_REPLACED = Reason(
    "CertificateReplaced", "The certificate in the Secret is not the one that was issued for it."
)
CA_CHANGED = Reason("CAChanged", "The certificate is not signed by the present key of the issuer's CA.")
ISSUER_CHANGED = Reason("IssuerChanged", "The certificate was issued through another issuer.")
NAMES_CHANGED = Reason("NamesChanged", "The names in the certificate are not those of the spec.")
SUBJECT_CHANGED = Reason("SubjectChanged", "The subject of the certificate is not that of the spec.")
PROFILE_CHANGED = Reason("ProfileChanged", "The certificate was issued with another profile.")
KEY_ALGORITHM_CHANGED = Reason("KeyAlgorithmChanged", "The key is not of the algorithm that the spec names.")
DURATION_CHANGED = Reason("DurationChanged", "The certificate was issued for another duration.")
CERTIFICATE_REVOKED = Reason("Revoked", "The certificate is revoked.")
CERTIFICATE_ON_HOLD = Reason("OnHold", "The certificate is on hold; release or revoke it.")
CERTIFICATE_EXPIRED = Reason("Expired", "The certificate has expired.")
NOT_YET_VALID = Reason("NotYetValid", "The certificate begins in the future; look at the clocks.")
RENEWAL_DUE = Reason("RenewalDue", "The certificate is due for renewal.")
RENEWAL_REQUESTED = Reason("RenewalRequested", "A renewal was asked for by annotation.")
SECRET_EDITED = Reason("SecretEdited", "The Secret is not as it was written.")
# Certificate: what becomes of it
NOTHING_TO_DO = Reason("NothingToDo", "The certificate is as it should be.")
SIGNING = Reason("Signing", "The request is recorded; its signature is awaited.")
POLICY_REFUSED = Reason("PolicyRefused", "The policy of the issuer refuses it; policyTrace says which rule.")
ISSUANCE_FAILED = Reason("IssuanceFailed", "The last attempt failed.")
USAGES_NOT_ASSERTED = Reason("UsagesNotAsserted", "The profile does not assert all of the usages.")
KEYSTORE_IMPOSSIBLE = Reason("KeystoreImpossible", "A PKCS #12 store cannot hold a key of this algorithm.")
PASSWORD_MISSING = Reason("PasswordMissing", "The password of the keystores cannot be read.")
SECRET_RESTORED = Reason("SecretRestored", "The Secret was written again with the certificate that was issued for it.")
REVOKED_ON_DELETION = Reason("RevokedOnDeletion", "Its certificates were revoked, as deletionPolicy asks for.")
HELD_ON_DELETION = Reason("HeldOnDeletion", "Its certificates are on hold, as deletionPolicy asks for.")
HOLD_RELEASED = Reason("HoldReleased", "The Certificate has come back, and its hold was released.")

# Hierarchy
TREE_READY = Reason("Ready", "Every CA of the tree is there.")
FORBIDDEN_CHANGE = Reason("ForbiddenChange", "The spec asks for what must not change.")
NEW_KEY_NEEDED = Reason(
    "NewKeyNeeded", "A change needs a new key for a CA, which is not supported yet; declare a new CA."
)
NEEDS_APPROVAL = Reason("NeedsApproval", "The plan in status.plan is carried out when it is approved.")
WAITING_FOR_SIGNER = Reason("WaitingForSigner", "The plan is with the signer.")
WAITING_FOR_SEALED_KEYS = Reason("WaitingForSealedKeys", "The plan needs keys that are sealed.")
SIGNER_FAILED = Reason("SignerFailed", "The plan could not be carried out; it is tried again.")
WAITING_FOR_OFFLINE_CA = Reason("WaitingForOfflineCA", "Somebody elsewhere has to sign; see status.authorities.")
CA_OUT_OF_SERVICE = Reason("CAOutOfService", "A CA of the tree has expired or was revoked.")
IN_SYNC = Reason("InSync", "The certificates that are served are those that are declared.")
DRIFT = Reason("Drift", "What is served or stored is not what is declared.")
NOT_CHECKED = Reason("NotChecked", "The status address cannot be reached from here, so that nothing was compared.")
CRLS_FRESH = Reason("Fresh", "Every CA has a revocation list that is valid.")
CRLS_STALE = Reason("Stale", "A CA has no revocation list that is valid.")

# Ceremony
NOT_HELD_HERE = Reason("NotHeldYet", "This version does not hold ceremonies; nothing of it is done.")
