"""The door of administrators: REST under `/api/v1`, mutual TLS, four levels.

Belongs here: who may call which operation, the JSON of requests and answers, and problem documents (RFC 9457).
Never belongs here: a rule about certificates, SQL, a signature; another protocol's folder is never imported.
Below: `spork.services`, and through it the pipeline, the revoker and the store's lists.
"""
