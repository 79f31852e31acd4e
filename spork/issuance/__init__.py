"""The one pipeline: decide, prepare, reserve, sign, record, publish; and its sibling, revocation.

Belongs here: the order of steps and the ports that storage and keys implement. Never here: SQL, HTTP, Kubernetes, settings,
private keys. Below it stand `policy`, `wire` and `x509`.
"""
