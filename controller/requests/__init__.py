"""What certificate requests of other APIs have in common: a PKCS#10 request, usages in words, an issuer, one answer.

Belongs here: reading them, choosing a profile, the request to the pipeline, the chain as PEM, which refusals are final.
Never belongs here: how one API writes its conditions, who approves, writes to the cluster.
Below: `spork.services`, `spork.controller.reconciler`.
"""
