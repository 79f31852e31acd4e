"""The declarative tree of authorities: specification, loading, validation, plan, preview and building.

Belongs here: the file model, the checks that name file, key and line, and the steps from what is declared to what
exists.
Never belongs here: HTTP, Kubernetes, SQL. The tree is the same whether it came from a file or from a cluster.
Below: `spork.issuance`; the store and the keys are its neighbours and reach it through the ports of `spork.issuance`.

Import it as `spork.hierarchy`: `spork/hierarchy` is a link to this folder.
"""
