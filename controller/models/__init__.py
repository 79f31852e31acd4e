"""The custom resources as pydantic models: the one source of crds/*.yaml, and what files of a folder are checked with.

Belongs here: fields with their descriptions, bounds, and rules, each rule once in CEL and once in Python.
Never belongs here: Kubernetes clients, what a reconciler does, anything that needs a database or a network.
Below: `spork.hierarchy`, whose file model the Hierarchy resource repeats, and the tables of `spork.x509`.
"""

from __future__ import annotations

from spork.controller.models.ceremony import Ceremony
from spork.controller.models.certificate import Certificate
from spork.controller.models.hierarchy import Hierarchy
from spork.controller.models.issuer import ClusterIssuer, Issuer
from spork.controller.models.schema import Resource

KINDS: dict[str, type[Resource]] = {
    kind.__name__: kind for kind in (Hierarchy, Issuer, ClusterIssuer, Certificate, Ceremony)
}

__all__ = ["KINDS", "Ceremony", "Certificate", "ClusterIssuer", "Hierarchy", "Issuer", "Resource"]
