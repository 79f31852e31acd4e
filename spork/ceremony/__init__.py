"""Key ceremonies: what custodians do together, step by step, with a transcript that can be verified.

Only this charter exists so far. Ceremonies will be built on the layers below without changing them.

Belongs here: plans, actions, shares of a secret, the transcript and its verification.
Never belongs here: terminal input and output, HTTP, Kubernetes. A ceremony is told what the custodians said.
Below: `spork.hierarchy`, `spork.store` and `spork.keys`.
"""
