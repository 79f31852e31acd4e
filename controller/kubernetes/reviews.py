"""Asks the API server what others may do.

Source: Kubernetes authorization.k8s.io/v1 SubjectAccessReview.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spork.controller.cluster import Attributes, Ref, Reviews, Unreachable
from spork.controller.kubernetes.connection import Connection

_PATH = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class AccessReviews:
    """The port `Reviews` over one API server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def may(self, user: Mapping[str, Any], attributes: Attributes) -> bool:
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user.get("username") or "",
                "uid": user.get("uid") or "",
                "groups": list(user.get("groups") or ()),
                "extra": dict(user.get("extra") or {}),
                "resourceAttributes": {
                    "verb": attributes.verb,
                    "group": attributes.group,
                    "resource": attributes.resource,
                    "namespace": attributes.namespace,
                    "name": attributes.name,
                },
            },
        }
        answer = await self._connection.request(
            "POST", _PATH, Ref("SubjectAccessReview", "", attributes.name), body=body
        )
        status = answer.get("status") or {}
        if status.get("allowed") is True and status.get("denied") is not True:
            return True
        # An authorizer that failed may only not have found the permission: that is no answer.
        if status.get("denied") is not True and (error := status.get("evaluationError")):
            raise Unreachable(f"The API server cannot decide who may use {attributes.resource}: {error}")
        return False


_: type[Reviews] = AccessReviews  # The port, checked by the type checker.
