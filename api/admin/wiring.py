"""From the services of a process to what this door works on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spork.api.admin.authenticate import Administrator, Authenticator
from spork.api.admin.backend import Backend, Enrolling
from spork.api.admin.reading import Reading
from spork.api.admin.tokenreview import reviewer_of
from spork.errors import Code, SporkError
from spork.ids import AuthorityId
from spork.issuance.publish import CRLPublisher
from spork.store.crl import CRLStore
from spork.store.enrolment_token import EnrolmentTokens

if TYPE_CHECKING:
    from spork.services import Services


def backend_of(services: Services) -> Backend:
    """Wires the parts together."""
    reading = Reading(services)
    publisher = CRLPublisher(CRLStore(services.database), services.keys, services.authorities, services.clock)

    async def publish(authority_id: AuthorityId, caller: Administrator) -> Sequence[int]:
        """A full list of every scope of the CA. Raises SporkError: KEY_UNAVAILABLE, IN_PROGRESS, NOT_FOUND."""
        scopes = [state.scope for state in await publisher.scopes() if state.scope.authority_id == authority_id]
        if not scopes:
            raise SporkError(Code.NOT_FOUND, f"{authority_id} has no certificate yet, so it has no CRL.")
        return [(await publisher.publish(scope, actor=caller.identity)).number for scope in scopes]

    return Backend(
        authenticator=Authenticator(
            services.authorities, reading.administrator_row, services.clock, services.settings.oid_base
        ),
        reading=reading,
        pipeline=services.pipeline,
        revoker=services.revoker,
        authorities=services.authorities,
        issuers=services.issuers,
        clock=services.clock,
        publish=publish,
        oid_base=services.settings.oid_base,
        enrolling=Enrolling(EnrolmentTokens(services.database), reviewer_of(services.settings)),
    )
