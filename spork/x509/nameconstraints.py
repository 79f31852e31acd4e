"""Whether names stay within a CA's nameConstraints. Shared by path validation and by lint.

Source: RFC 5280 section 4.2.1.10 (forms and matching), section 6.1.3 (b) and (c) (to which names they apply).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from cryptography import x509

_COMPARISONS_LIMIT = 250_000
"""Names times subtrees. A certificate may name a thousand hosts under a hundred subtrees; beyond that it is an attack."""


def constrained_names(subject: x509.Name, alternative: Iterable[x509.GeneralName]) -> list[x509.GeneralName]:
    """The names that constraints apply to: a subject that is not empty, and all alternative names.

    An e-mail address in the subject counts where no alternative name holds one (RFC 5280 section 4.2.1.10).
    """
    names = list(alternative)
    if not any(isinstance(name, x509.RFC822Name) for name in names):
        for attribute in subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS):
            # The parser does not demand that the attribute is an IA5String; an address that is none matches nothing.
            value = str(attribute.value)
            names.append(x509.RFC822Name(value) if value.isascii() and "@" in value else x509.RFC822Name("invalid"))
    if subject.rdns:
        names.append(x509.DirectoryName(subject))
    return names


def constraint_fault(constraints: x509.NameConstraints, names: Sequence[x509.GeneralName]) -> str | None:
    """One sentence about the first name that is not allowed, or None. Names of a kind without constraints are free."""
    permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
    if len(names) * (len(permitted) + len(excluded)) > _COMPARISONS_LIMIT:
        return "There are too many names and name constraints to compare."
    for name in names:
        if any(type(tree) is type(name) and _within(name, tree, excluding=True) for tree in excluded):
            return f"The name {_text(name)} is excluded by a CA's name constraints."
        same_kind = [tree for tree in permitted if type(tree) is type(name)]
        if same_kind and not any(_within(name, tree, excluding=False) for tree in same_kind):
            return f"The name {_text(name)} is not permitted by a CA's name constraints."
    return None


def _within(name: x509.GeneralName, tree: x509.GeneralName, *, excluding: bool) -> bool:
    """Whether the name is in the subtree. What cannot be compared is held against the name: excluded, and not permitted."""
    match name, tree:
        case x509.DNSName(), x509.DNSName():
            return _dns_within(name.value.lower(), tree.value.lower(), excluding=excluding)
        case x509.IPAddress(), x509.IPAddress():
            return _ip_within(name.value, tree.value, excluding=excluding)
        case x509.RFC822Name(), x509.RFC822Name():
            return _email_within(name.value, tree.value, excluding=excluding)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            return _uri_within(name.value, tree.value.lower(), excluding=excluding)
        case x509.DirectoryName(), x509.DirectoryName():
            return _dn_within(name.value, tree.value)
        case _:
            return excluding


def _dns_within(name: str, tree: str, *, excluding: bool) -> bool:
    name = name.rstrip(".")
    if name.startswith("*."):
        base = name[2:]
        # Any name one label below the base may be meant: the subtree of one of them being excluded excludes the wildcard.
        if excluding and tree.lstrip(".").partition(".")[2] == base:
            return True
        # Seen from a subtree at or above its base, a wildcard is like any name below that base.
        name = f"x.{base}"
        if tree.lstrip(".") == name:
            return False
    return not tree or name == tree or name.endswith(tree if tree.startswith(".") else f".{tree}")


def _ip_within(name: object, tree: object, *, excluding: bool) -> bool:
    if isinstance(name, ipaddress.IPv4Address) and isinstance(tree, ipaddress.IPv4Network):
        return name in tree
    if isinstance(name, ipaddress.IPv6Address) and isinstance(tree, ipaddress.IPv6Network):
        return name in tree
    if isinstance(name, ipaddress.IPv4Address | ipaddress.IPv6Address) and isinstance(
        tree, ipaddress.IPv4Network | ipaddress.IPv6Network
    ):
        # The other version of the protocol: a constraint on one says that addresses of the other are not permitted.
        return False
    return excluding


def _email_within(name: str, tree: str, *, excluding: bool) -> bool:
    local, at, host = name.rpartition("@")
    if not at or not local:
        return excluding
    tree_local, tree_at, tree_host = tree.rpartition("@")
    if tree_at:
        return local == tree_local and host.lower() == tree_host.lower()
    return _host_within(host.lower(), tree.lower())


def _uri_within(name: str, tree: str, *, excluding: bool) -> bool:
    scheme, colon, rest = name.partition(":")
    if not scheme or not colon or not rest.startswith("//"):
        return excluding
    authority = rest[2:].replace("?", "/").replace("#", "/").split("/", 1)[0]
    host = authority.rpartition("@")[2]
    if host.startswith("["):
        return excluding
    host = host.partition(":")[0].rstrip(".").lower()
    if not host or host.rpartition(".")[2].isdigit():
        # RFC 5280 section 4.2.1.10: an address instead of a name must be rejected where URIs are constrained.
        return excluding
    return _host_within(host, tree)


def _host_within(host: str, tree: str) -> bool:
    """A constraint with a leading dot means every host below it; without one that host alone; an empty one all hosts."""
    return not tree or (host.endswith(tree) and host != tree if tree.startswith(".") else host == tree)


def _dn_within(name: x509.Name, tree: x509.Name) -> bool:
    above, below = _comparable(tree), _comparable(name)
    return len(above) <= len(below) and below[: len(above)] == above


def _comparable(name: x509.Name) -> list[frozenset[tuple[str, str | bytes]]]:
    """Names as they compare: case and runs of blanks do not count (RFC 5280 section 7.1)."""
    return [frozenset((part.oid.dotted_string, _folded(part.value)) for part in rdn) for rdn in name.rdns]


def _folded(value: str | bytes) -> str | bytes:
    return " ".join(value.split()).casefold() if isinstance(value, str) else value


def _text(name: x509.GeneralName) -> str:
    if isinstance(name, x509.DirectoryName):
        return repr(name.value.rfc4514_string())
    return repr(str(name.value))
