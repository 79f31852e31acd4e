"""The operator for Kubernetes, and the same reconciler over a folder of files.

Belongs here: one reconciler per kind in a folder of its own, the queue that calls them (`operator`, `queue`), the models
behind the custom resource definitions (`models`, `crds`), and the one port to a cluster (`cluster`) with its two adapters
(`kubernetes`, `folder`).
Never belongs here: a rule about certificates, a signature, an SQL statement. A door authenticates and translates,
nothing else.
Below: `spork.services`.

Import it as `spork.controller`: `spork/controller` is a link to this folder.
"""
