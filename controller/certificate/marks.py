"""What is written beside key and certificate, so that a Secret says whose it is and what is in it."""

from __future__ import annotations

import hashlib

from spork.controller.models.schema import GROUP

CERTIFICATE_NAME = f"{GROUP}/certificate-name"
"""Whose the Secret is. A Certificate of the same name and namespace that comes back later finds it by this."""
CERTIFICATE_UID = f"{GROUP}/certificate-uid"
REVISION = f"{GROUP}/certificate-revision"
SERIAL = f"{GROUP}/serial"
ISSUER = f"{GROUP}/issuer"
"""`Kind/name`."""
AUTHORITY = f"{GROUP}/ca"
"""`id/generation`."""
PROFILE = f"{GROUP}/profile"
DURATION = f"{GROUP}/duration"
"""The seconds that were asked for; empty where the profile decides."""
HANDLED_RENEWAL = f"{GROUP}/handled-renew"
"""The value of the annotation `renew` that this certificate answers."""
KEYSTORES = f"{GROUP}/keystores"
"""SHA-256 of the stores and of how they were asked for."""
PASSWORD_VERSION = f"{GROUP}/keystore-password-version"
"""The version of the Secret that the stores' password was read from."""
TEMPLATE = f"{GROUP}/secret-template"
"""Which labels and annotations came from secretTemplate, so that they go when it no longer names them."""
REQUEST = f"{GROUP}/request"
"""On a pending key: the digest of what was asked for with it."""

FINALIZER = f"{GROUP}/certificate"
"""On Certificates whose deletion policy has work to do, and on no others."""

_LONGEST_NAME = 253


def pending_name(name: str, uid: str, revision: int) -> str:
    """The name of the Secret that holds the key of a revision until its certificate is there."""
    suffix = f"-key-{hashlib.sha256(f'{uid}:{revision}'.encode()).hexdigest()[:16]}"
    # A name must not have a dot or hyphen before the suffix's own where it was cut.
    return name[: _LONGEST_NAME - len(suffix)].rstrip("-.") + suffix
