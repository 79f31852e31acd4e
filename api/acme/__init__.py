"""The ACME door (RFC 8555): accounts, orders, authorizations, challenges, finalize, download, revocation, key change.

Belongs here: reading signed requests, the JSON of the protocol, the validators that prove control over names.
Never belongs here: SQL (that is `spork.store.acme_*`), a rule about certificates (policy), a signature (the pipeline).
Below: `spork.services`.
"""
