"""The token door of an issuer: which ServiceAccounts may enrol there, and which names their identity stands for.

Settings under `protocols.token`: `audiences`, one of which a ServiceAccount's token must be for; `subjects`, patterns
`namespace:serviceaccount` in which `*` stands for any run of characters; `names`, templates with `{namespace}` and
`{serviceaccount}`. Without subjects the door is open for one-time tokens alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from spork.errors import SporkError
from spork.policy.issuer import Issuer
from spork.x509.names import SubjectName
from spork.x509.nametext import name_from_plain_text

PROTOCOL: Final = "token"
DEFAULT_AUDIENCE: Final = "spork-ca.org"
NAMESPACE: Final = "{namespace}"
SERVICE_ACCOUNT: Final = "{serviceaccount}"

AUDIENCE_PATTERN: Final = r"[!-~]+"
SUBJECT_PATTERN: Final = r"[a-z0-9*-]+:[a-z0-9.*-]+"
# A placeholder is a whole part between separators. Beside a letter or hyphen, `a-b` and `c` would spell the same as `a` and `b-c`.
_PART = r"(\{namespace\}|\{serviceaccount\}|[A-Za-z0-9_~-]+)"
TEMPLATE_PATTERN: Final = rf"{_PART}([./:@]+{_PART})*"
SUBJECT_RULE: Final = (
    "A subject is namespace:serviceaccount, where * stands for any characters, such as shop:* or team-*:web."
)
TEMPLATE_RULE: Final = (
    "A template is a name in which {namespace} and {serviceaccount} stand alone between dots or slashes, such as "
    "{serviceaccount}.{namespace}.svc."
)

_NAMESPACE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ACCOUNT_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_WHOLE_SEGMENT = re.compile(r"(?<=/)\{serviceaccount\}(?=/|\Z)")


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A ServiceAccount as the API server vouches for it."""

    namespace: str
    name: str
    uid: str

    @property
    def identity(self) -> str:
        """Stable and printable, for records."""
        return f"service-account:{self.namespace}:{self.name}"


@dataclass(frozen=True, slots=True)
class TokenDoor:
    """The settings of one issuer's door."""

    audiences: tuple[str, ...]
    subjects: tuple[str, ...]
    names: tuple[str, ...]

    def admits(self, account: ServiceAccount) -> bool:
        """Whether a pattern covers it. No pattern, nobody."""
        return any(_covers(pattern, account) for pattern in self.subjects)

    def names_of(self, account: ServiceAccount) -> tuple[SubjectName, ...]:
        """The names that the account stands for. A template that gives no name that can be certified gives none."""
        found = (_expanded(template, account) for template in self.names)
        return tuple(dict.fromkeys(name for name in found if name is not None))


def token_door(issuer: Issuer) -> TokenDoor | None:
    """The door, or None where the issuer has not opened it."""
    settings = issuer.protocols.get(PROTOCOL)
    if settings is None:
        return None
    return TokenDoor(
        tuple(settings.get("audiences", (DEFAULT_AUDIENCE,))),
        tuple(settings.get("subjects", ())),
        tuple(settings.get("names", ())),
    )


def service_account(username: str, uid: str) -> ServiceAccount | None:
    """From the user name that Kubernetes gives a ServiceAccount; None for every other user."""
    parts = username.split(":")
    if parts[:2] != ["system", "serviceaccount"] or len(parts) != 4 or not uid:
        return None
    namespace, name = parts[2:]
    if _NAMESPACE_NAME.fullmatch(namespace) is None or _ACCOUNT_NAME.fullmatch(name) is None:
        return None
    return ServiceAccount(namespace, name, uid)


def subject_fault(text: str) -> str | None:
    """What is wrong with a pattern of subjects, as a sentence."""
    return None if re.fullmatch(SUBJECT_PATTERN, text, re.ASCII) else SUBJECT_RULE


def template_fault(text: str) -> str | None:
    """What is wrong with a template, as a sentence."""
    if re.fullmatch(TEMPLATE_PATTERN, text, re.ASCII) is None:
        return TEMPLATE_RULE
    try:
        name_from_plain_text(text.replace(NAMESPACE, "namespace").replace(SERVICE_ACCOUNT, "account"))
    except (SporkError, ValueError) as error:
        return f"The template gives no name: {getattr(error, 'detail', error)}"
    return None


def _covers(pattern: str, account: ServiceAccount) -> bool:
    parts = pattern.partition(":")
    values = account.namespace, ":", account.name
    return all(_fits(part, value) for part, value in zip(parts, values, strict=True))


def _fits(pattern: str, value: str) -> bool:
    """Takes each piece where it comes first. A regular expression would try all places of all pieces, for hours if so written."""
    first, *pieces = pattern.split("*")
    if not pieces:
        return value == pattern
    last = pieces.pop()
    if not (value.startswith(first) and value.endswith(last) and len(value) >= len(first) + len(last)):
        return False
    at, end = len(first), len(value) - len(last)
    for piece in pieces:
        found = value.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _expanded(template: str, account: ServiceAccount) -> SubjectName | None:
    # With a dot in it the account's name could spell a namespace. Only between slashes it is told apart from everything else.
    if "." in account.name and SERVICE_ACCOUNT in _WHOLE_SEGMENT.sub("", template):
        return None
    try:
        return name_from_plain_text(
            template.replace(NAMESPACE, account.namespace).replace(SERVICE_ACCOUNT, account.name)
        )
    except (SporkError, ValueError):
        return None
