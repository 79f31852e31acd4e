"""Issuer and ClusterIssuer resources: one row of the store for each, and who may use it.

Belongs here: binding a resource to a CA as it stands in the database, grants to namespaces, doors, and deletion.
Never belongs here: issuing. `usable.py` says to other reconcilers which issuer they may hand to the pipeline.
Below: `spork.hierarchy`, which checks what an issuer declares, and `spork.services`.
"""
