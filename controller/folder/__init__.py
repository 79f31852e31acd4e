"""The folder adapter of the Cluster port: resources in YAML files, their state and Secrets in files under SPORK_HOME.

Belongs here: reading and watching the folder DIR, deciding when a file counts as deleted, and the files of the state.
Never belongs here: writing to DIR, and what resources mean; the habits of an API server are in `spork.controller.objects`.
Below: `spork.controller.objects`, `spork.controller.manifests`, `spork.files`.
"""
