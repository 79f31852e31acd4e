"""The operator for Kubernetes, and the same reconciler over a folder of files.

The resources exist so far: models, their CRDs, and a reader of manifests. Nothing acts on them yet.

Belongs here: one reconcile function per kind, the models behind the custom resource definitions (`models`, `crds`), and the
two adapters of the one cluster port.
Never belongs here: a rule about certificates, a signature, an SQL statement. A door authenticates and translates,
nothing else.
Below: `spork.services`.

Import it as `spork.controller`: `spork/controller` is a link to this folder.
"""
