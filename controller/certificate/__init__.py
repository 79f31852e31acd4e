"""The reconciler of Certificates: a key and its certificate in a Secret, issued, kept whole and renewed in time.

Belongs here: what is read (`snapshot`), what follows from it (`checks`, `decide`: pure), what is done (`issuing`, `deletion`) and
what is said of it (`statement`).
Never belongs here: policy, signing, SQL, Kubernetes clients; whether an issuer may be used (`controller/issuer/usable.py`).
Below: the port `Cluster`, the resource models, and the services.
"""
