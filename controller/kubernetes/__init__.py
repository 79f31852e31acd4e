"""The Kubernetes adapter of the port `spork.controller.cluster`.

Belongs here: the connection to an API server, the copy of what is watched, the watches that keep it true, and what only a real
cluster has (events, leases, access reviews). Everything is plain JSON; no model of the client library is made from it.
Never belongs here: what a resource means. Reconcilers do not know that this package exists.
Below: `spork.controller.cluster`. Only this package imports `kubernetes`.
"""
