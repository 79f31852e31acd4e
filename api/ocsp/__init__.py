"""The OCSP door: who asks about a certificate gets a signed answer, from a cache that a revocation invalidates.

Belongs here: reading requests off HTTP, finding the CA that is meant, keeping answers while they are true, responder keys.
Never belongs here: encodings (`spork.x509.ocsp`), SQL, issuing.
Below: `spork.services`.
"""
