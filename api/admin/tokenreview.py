"""Who a ServiceAccount's token belongs to: the Kubernetes API server says, by TokenReview.

Source: kubernetes.io, reference of authentication.k8s.io/v1 TokenReview. The caller must hold the role system:auth-delegator.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeGuard

import httpx
import structlog

from spork.errors import Code, ConfigurationError, SporkError
from spork.policy.tokendoor import ServiceAccount, service_account
from spork.settings import Settings

MAX_TOKEN_OCTETS: Final = 16 * 1024
_IN_CLUSTER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_TIMEOUT: Final = httpx.Timeout(5.0)
_JWS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MAX_ANSWER_OCTETS: Final = 256 * 1024

log = structlog.get_logger("spork.api.admin")


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A token that the API server vouches for."""

    account: ServiceAccount
    credential: str
    """The token's own id, such as `JTI=...`; empty where the API server does not tell."""


def looks_like_service_account_token(token: str) -> bool:
    """Whether it is worth asking: a compact JWS, which is what the API server issues (RFC 7515 section 7.1)."""
    return len(token) <= MAX_TOKEN_OCTETS and _JWS.fullmatch(token) is not None


class TokenReviewer:
    """Asks one API server. Its CA and our own token are read each time, because both are replaced while we run."""

    def __init__(self, url: str, token_file: Path, ca_file: Path | None) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._ca_file = ca_file

    async def review(self, token: str, audiences: Sequence[str]) -> Reviewed:
        """The ServiceAccount that the token is of, if it was made for one of the audiences.

        Raises SporkError: UNAUTHENTICATED; UNAVAILABLE if the API server cannot be asked.
        """
        status = _status(await self._ask(token, audiences))
        if status.get("authenticated") is not True:
            raise _not_believed()
        # An API server that does not know audiences answers without them, and the token may be meant for somebody else.
        granted = status.get("audiences")
        if not isinstance(granted, list) or not set(audiences) & {one for one in granted if isinstance(one, str)}:
            raise _not_believed()
        user = status.get("user")
        account = service_account(str(user.get("username")), str(user.get("uid") or "")) if _is_table(user) else None
        if account is None:
            raise SporkError(Code.UNAUTHENTICATED, "Only a ServiceAccount's token is accepted, not that of a user.")
        return Reviewed(account, _credential(user))

    async def _ask(self, token: str, audiences: Sequence[str]) -> Any:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        try:
            own = self._token_file.read_text("ascii").strip()
            tls = ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
            headers = {"Authorization": f"Bearer {own}", "Accept": "application/json"}
            async with httpx.AsyncClient(verify=tls, timeout=_TIMEOUT, trust_env=False) as http:
                answer = await http.post(f"{self._url}{_PATH}", json=body, headers=headers)
            if answer.status_code not in (200, 201) or len(answer.content) > _MAX_ANSWER_OCTETS:
                raise _unavailable(f"it answered {answer.status_code}")
            return answer.json()
        # Neither token stands in what these say.
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unavailable(type(error).__name__) from None
        except (OSError, ValueError) as error:
            raise _unavailable(type(error).__name__) from None


def reviewer_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> TokenReviewer | None:
    """The API server of the settings, or the one of the cluster that this process runs in; None outside of any.

    Raises ConfigurationError.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    url = settings.kubernetes_url
    if not url and host:
        url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    if not url:
        return None
    if not url.startswith("https://"):
        raise ConfigurationError(f"SPORK_KUBERNETES_URL: {url!r} is not an https URL; tokens are sent there.")
    ca_file = settings.kubernetes_ca_file or _IN_CLUSTER / "ca.crt"
    return TokenReviewer(url, settings.kubernetes_token_file or _IN_CLUSTER / "token", ca_file)


def _status(answer: Any) -> Mapping[str, Any]:
    status = answer.get("status") if _is_table(answer) else None
    if not _is_table(status):
        raise _unavailable("its answer has no status")
    return status


def _is_table(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, dict)


def _credential(user: Any) -> str:
    extra = user.get("extra")
    found = extra.get("authentication.kubernetes.io/credential-id") if _is_table(extra) else None
    return str(found[0])[:128] if isinstance(found, list) and found else ""


def _not_believed() -> SporkError:
    return SporkError(
        Code.UNAUTHENTICATED,
        "The token is not valid for this CA: expired, of another cluster, or for another audience.",
    )


def _unavailable(why: str) -> SporkError:
    log.warning("tokens cannot be reviewed", reason=why)
    return SporkError(
        Code.UNAVAILABLE, "The Kubernetes API server cannot be asked about the token; try again.", retry_after_s=5
    )
