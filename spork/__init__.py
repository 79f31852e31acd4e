"""SPORK CA: a certificate authority that knows no HTTP and no Kubernetes.

Belongs here: what a certificate authority is, whichever door a request came through.
Never belongs here: a web framework, a Kubernetes client, a protocol's error message. Those live in the doors,
`spork.api` and `spork.controller`, which are real folders at the top of the repository; this package holds relative
links to them, so that nothing with a name as general as `api` is ever installed into somebody's site-packages.

The layers, each of which may import only what is below it (`make check` enforces this):

    cli
    controller | api
    services
    ceremony
    hierarchy | store | keys
    issuance
    policy | wire
    x509
    errors, ids, clock, settings
"""

__version__ = "0.1.0"
