"""What people say to the operator by annotations, and what the operator holds objects with."""

from __future__ import annotations

from spork.controller.models.schema import GROUP

APPROVE = f"{GROUP}/approve"
"""On a Hierarchy: the hash of the plan, from its status, that may be carried out."""
CONFIRM_DELETE = f"{GROUP}/confirm-delete"
"""On a Hierarchy, Issuer or ClusterIssuer: the number of live certificates that its deletion leaves behind."""
RENEW = f"{GROUP}/renew"
"""On a Certificate: any new value renews it now."""
LIVE_CERTIFICATES = f"{GROUP}/live-certificates"
"""Finalizer of Hierarchies, Issuers and ClusterIssuers: they go when nothing that they issued is alive, or it was confirmed."""
