"""The `[[issuers]]` of a file: which CA issues what for whom through which doors."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

from spork.errors import SporkError
from spork.hierarchy.model import DeclaredIssuer
from spork.hierarchy.positions import Path
from spork.hierarchy.problems import Problems
from spork.hierarchy.spec import ACMESpec, ExpressionSpec, IssuerSpec, NamesSpec, TokenSpec
from spork.hierarchy.values import MAX_VALIDITY_DAYS
from spork.ids import AuthorityId, is_slug
from spork.policy.expressions import MAX_EXPRESSIONS, check_expression
from spork.policy.issuer import Expression, KeyPolicy, NamePolicy
from spork.policy.patterns import check_pattern
from spork.policy.tokendoor import AUDIENCE_PATTERN, DEFAULT_AUDIENCE, subject_fault, template_fault
from spork.x509.algorithms import BY_NAME
from spork.x509.authority import AuthorityKind, KeyMode
from spork.x509.names import NameKind
from spork.x509.profiles import PROFILES

CHALLENGES = ("http-01", "dns-01", "tls-alpn-01")

_EST_OPERATIONS = (
    *("cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs"),  # RFC 7030 section 3.2.2
    *("pal", "eecerts", "crls", "symmetrickeys", "firmware", "tamp"),  # RFC 8295 section 1.2
)
RESERVED_NAMES = frozenset({"directory", "p", *_EST_OPERATIONS})
"""Path segments that stand where an issuer's name may stand: ACME's default directory, CMP's `p` (RFC 9811), EST's operations."""


class KnownAuthority(Protocol):
    """What an issuer has to know of its CA, whether it is declared beside it or stands in the database."""

    @property
    def id(self) -> AuthorityId: ...
    @property
    def kind(self) -> AuthorityKind: ...
    @property
    def key_mode(self) -> KeyMode: ...
    @property
    def profiles(self) -> tuple[str, ...]: ...


def issuable_profiles() -> list[str]:
    """Profiles that an issuer may offer: neither those of CAs nor those that SPORK issues to itself or its administrators."""
    return [p.name for p in PROFILES.values() if p.requestable and not p.ca and not p.name.startswith("admin-")]


def declared_issuers(
    specs: Sequence[IssuerSpec], tree: Mapping[AuthorityId, KnownAuthority], problems: Problems
) -> tuple[DeclaredIssuer, ...]:
    """All issuers. A file with one issuer has it as the default."""
    _check_names(specs, problems)
    issuers = [_issuer(spec, ("issuers", index), tree, problems) for index, spec in enumerate(specs)]
    defaults = [index for index, issuer in enumerate(issuers) if issuer.default]
    for index in defaults[1:]:
        problems.add(("issuers", index, "default"), f"{issuers[defaults[0]].name!r} is the default issuer already.")
    if len(issuers) == 1:
        issuers = [replace(issuers[0], default=True)]
    return tuple(issuers)


def _check_names(specs: Sequence[IssuerSpec], problems: Problems) -> None:
    seen: set[str] = set()
    for index, spec in enumerate(specs):
        where: Path = ("issuers", index, "name")
        if "." in spec.name:
            problems.add(where, f"{spec.name!r} has a dot; dotted names belong to issuers of a Kubernetes namespace.")
        elif not is_slug(spec.name):
            problems.add(where, f"{spec.name!r} is no slug of lower-case letters, digits and hyphens, at most 63.")
        elif spec.name in RESERVED_NAMES:
            problems.add(where, f"{spec.name!r} is reserved: it is a word of the URLs in which the name will stand.")
        elif spec.name in seen:
            problems.add(where, f"there is an issuer {spec.name!r} already.")
        seen.add(spec.name)


def _issuer(
    spec: IssuerSpec, path: Path, tree: Mapping[AuthorityId, KnownAuthority], problems: Problems
) -> DeclaredIssuer:
    authority = _authority(spec, path, tree, problems)
    _check_profiles(spec.profiles, path, problems)
    if authority is not None and authority.profiles:
        for index, profile in enumerate(spec.profiles):
            if profile not in authority.profiles:
                problems.add(
                    (*path, "profiles", index), f"the CA {authority.id!r} does not offer the profile {profile!r}."
                )
    _check_words(spec.keys.algorithms, BY_NAME, "algorithm", (*path, "keys", "algorithms"), problems)
    days = spec.max_validity_days
    if days is not None and not 1 <= days <= MAX_VALIDITY_DAYS:
        problems.add((*path, "max_validity_days"), f"{days} is out of range; at least 1, at most {MAX_VALIDITY_DAYS}.")
        days = None
    return DeclaredIssuer(
        name=spec.name,
        authority_id=AuthorityId(spec.ca),
        profiles=tuple(spec.profiles),
        names=NamePolicy(
            permit=_patterns(spec.names.permit, (*path, "names", "permit"), problems),
            deny=_patterns(spec.names.deny, (*path, "names", "deny"), problems),
            wildcards=spec.names.wildcards,
        ),
        keys=KeyPolicy(algorithms=tuple(spec.keys.algorithms)),
        max_validity=None if days is None else timedelta(days=days),
        protocols=_protocols(spec, path, authority, problems),
        default=spec.default,
        expressions=_expressions(spec.expressions, (*path, "expressions"), problems),
    )


def _expressions(specs: Sequence[ExpressionSpec], path: Path, problems: Problems) -> tuple[Expression, ...]:
    if len(specs) > MAX_EXPRESSIONS:
        problems.add(path, f"there are {len(specs)}; at most {MAX_EXPRESSIONS}.")
    for index, spec in enumerate(specs[:MAX_EXPRESSIONS]):
        try:
            check_expression(spec.rule)
        except SporkError as error:
            problems.add((*path, index, "rule"), error.detail)
    return tuple(Expression(spec.rule, spec.message) for spec in specs)


def _authority(
    spec: IssuerSpec, path: Path, tree: Mapping[AuthorityId, KnownAuthority], problems: Problems
) -> KnownAuthority | None:
    authority = tree.get(AuthorityId(spec.ca))
    if authority is None:
        problems.unknown(
            (*path, "ca"), "CA", spec.ca, [ca.id for ca in tree.values() if ca.kind is AuthorityKind.ISSUING]
        )
    elif authority.kind is not AuthorityKind.ISSUING:
        problems.add(
            (*path, "ca"), f"{spec.ca!r} is a {authority.kind.value} CA; certificates are issued by issuing CAs."
        )
    return authority


def _check_profiles(profiles: Sequence[str], path: Path, problems: Problems) -> None:
    if not profiles:
        problems.add(
            (*path, "profiles"), f"an issuer offers at least one profile; known are {', '.join(issuable_profiles())}."
        )
    _check_words(profiles, issuable_profiles(), "profile", (*path, "profiles"), problems)


def _check_words(words: Sequence[str], known: Iterable[str], what: str, path: Path, problems: Problems) -> None:
    offered = list(known)
    for index, word in enumerate(words):
        if word not in offered:
            problems.unknown((*path, index), what, word, offered)
        elif word in words[:index]:
            problems.add((*path, index), f"{word!r} stands here twice.")


def _patterns(spec: NamesSpec, path: Path, problems: Problems) -> dict[str, tuple[str, ...]]:
    patterns = {kind: getattr(spec, kind.value) for kind in NameKind}
    for kind, texts in patterns.items():
        for index, text in enumerate(texts):
            try:
                check_pattern(kind, text)
            except (SporkError, ValueError) as error:
                problems.add((*path, kind.value, index), getattr(error, "detail", str(error)))
    return {kind.value: tuple(texts) for kind, texts in patterns.items() if texts}


def _protocols(
    spec: IssuerSpec, path: Path, authority: KnownAuthority | None, problems: Problems
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, door in (("acme", spec.protocols.acme), ("token", spec.protocols.token)):
        if door is None:
            continue
        where = (*path, "protocols", name)
        if authority is not None and authority.key_mode is not KeyMode.ONLINE:
            problems.add(
                where,
                f"the key of {authority.id!r} is {authority.key_mode.value}, and a server can sign only with an online one.",
            )
        if isinstance(door, ACMESpec):
            _check_acme(door, where, problems)
        else:
            _check_token(door, where, problems)
        found[name] = door.model_dump(exclude_none=True)
    return found


def _check_token(token: TokenSpec, path: Path, problems: Problems) -> None:
    if not token.audiences:
        problems.add((*path, "audiences"), f"at least one audience is needed; {DEFAULT_AUDIENCE!r} is the usual one.")
    for index, audience in enumerate(token.audiences):
        if re.fullmatch(AUDIENCE_PATTERN, audience) is None:
            problems.add((*path, "audiences", index), "an audience is one word without blanks.")
    for key, fault_of in (("subjects", subject_fault), ("names", template_fault)):
        for index, text in enumerate(getattr(token, key)):
            if (fault := fault_of(text)) is not None:
                problems.add((*path, key, index), fault)
    if bool(token.subjects) != bool(token.names):
        problems.add(path, "subjects say which ServiceAccounts may come, names what they get; one needs the other.")


def _check_acme(acme: ACMESpec, path: Path, problems: Problems) -> None:
    if not acme.challenges:
        problems.add((*path, "challenges"), f"at least one challenge is needed; known are {', '.join(CHALLENGES)}.")
    _check_words(acme.challenges, CHALLENGES, "challenge", (*path, "challenges"), problems)
    for index, network in enumerate(acme.networks):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            problems.add((*path, "networks", index), f"not a network such as '10.0.0.0/8': {error}.")
    for challenge, port in acme.ports.items():
        if challenge not in CHALLENGES:
            problems.unknown((*path, "ports", challenge), "challenge", challenge, CHALLENGES)
        elif not 1 <= port <= 65535:
            problems.add((*path, "ports", challenge), f"{port} is no port; at least 1, at most 65535.")
    for key in ("terms_of_service", "website"):
        url = getattr(acme, key)
        if url is not None and not url.startswith(("https://", "http://")):
            problems.add((*path, key), f"{url!r} is not an http or https URL.")
    for index, identity in enumerate(acme.caa_identities):
        try:
            check_pattern(NameKind.DNS, identity)
        except (SporkError, ValueError) as error:
            problems.add((*path, "caa_identities", index), getattr(error, "detail", str(error)))
