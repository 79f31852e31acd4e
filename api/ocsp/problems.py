"""What an error looks like in OCSP: one of the unsigned response states (RFC 6960 section 2.3)."""

from __future__ import annotations

from spork.errors import Code
from spork.x509.ocspresponse import ResponseStatus

# Total: whatever is not named here is a fault of ours.
STATUS_OF_CODE: dict[Code, ResponseStatus] = dict.fromkeys(Code, ResponseStatus.internalError) | {
    Code.MALFORMED: ResponseStatus.malformedRequest,
    Code.TOO_LARGE: ResponseStatus.malformedRequest,
    Code.UNSUPPORTED_MEDIA_TYPE: ResponseStatus.malformedRequest,
    Code.NOT_FOUND: ResponseStatus.unauthorized,
    Code.FORBIDDEN: ResponseStatus.unauthorized,
    Code.UNAUTHENTICATED: ResponseStatus.unauthorized,
    Code.KEY_UNAVAILABLE: ResponseStatus.tryLater,
    Code.WRONG_PASSPHRASE: ResponseStatus.tryLater,
    Code.RATE_LIMITED: ResponseStatus.tryLater,
    Code.LEASE_LOST: ResponseStatus.tryLater,
    Code.IN_PROGRESS: ResponseStatus.tryLater,
    Code.UNAVAILABLE: ResponseStatus.tryLater,
}
