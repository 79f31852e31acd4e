"""The status address: OCSP, revocation lists and CA certificates behind one ASGI application, and their workers.

Belongs here: which path goes to which door, and the feed that tells both doors what other replicas committed.
Never belongs here: anything about a protocol itself.
Below: `spork.api.ocsp`, `spork.api.crl`, `spork.services`.
"""

from spork.api.status.application import StatusApplication, application

__all__ = ["StatusApplication", "application"]
