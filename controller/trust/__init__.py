"""Trust: the roots of the declared trees, brought to whoever asks for them, before anything signs below a new one.

A bundle is a ConfigMap in each namespace that asks for it by a label, and a ClusterTrustBundle for each Hierarchy where the API
server has the kind. What belongs here: which roots a bundle holds, writing and restoring it, and the question whether a root is
distributed yet. What never does: the management CA, private keys, or any decision about who may use a CA. Below it are the
cluster port and the services.
"""
