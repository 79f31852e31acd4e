"""Texts that several resources have in common: names as they stand in certificates, references, durations."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import Annotated

from spork.controller.models.schema import Text, word_of
from spork.hierarchy.issuers import CHALLENGES, issuable_profiles
from spork.x509.algorithms import BY_NAME

_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = rf"{_HOST_LABEL}(\.{_HOST_LABEL})*"
# In a pattern a whole label may stand for the namespace of who asks.
_PATTERN_LABEL = rf"(\{{namespace\}}|{_HOST_LABEL})"
_PATTERN_HOST = rf"{_PATTERN_LABEL}(\.{_PATTERN_LABEL})*"
_MAILBOX = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}"
SLUG_PATTERN = _LABEL


def _is_address(text: str) -> bool:
    try:
        # A scope such as %eth0 names an interface of one machine, which no certificate can mean.
        return "%" not in text and ipaddress.ip_address(text) is not None
    except ValueError:
        return False


def is_network(text: str) -> bool:
    """A network without host bits, or a bare address."""
    try:
        return "%" not in text and ipaddress.ip_network(text) is not None
    except ValueError:
        return False


AlgorithmName = Annotated[str, word_of("algorithm", tuple(BY_NAME))]
ProfileName = Annotated[str, word_of("profile", tuple(issuable_profiles()))]
Challenge = Annotated[str, word_of("challenge", CHALLENGES)]

AuthorityName = Annotated[
    str,
    Text(
        63, _LABEL, "The id of a CA has lower-case letters, digits and hyphens, at most 63, and no hyphen at its ends."
    ),
]
ObjectName = Annotated[
    str,
    Text(253, rf"{_LABEL}(\.{_LABEL})*", "The name of an object has lower-case letters, digits, hyphens and dots."),
]
DNSName = Annotated[
    str,
    Text(
        253,
        rf"(\*\.)?{_HOST}",
        "A DNS name has labels of letters, digits and hyphens joined by dots; a wildcard stands alone as the first label.",
    ),
]
IPAddress = Annotated[
    str,
    Text(45, cel="isIP(self)", check=_is_address, message="An IP address is IPv4 or IPv6, without a mask or a zone."),
]
EmailAddress = Annotated[
    str, Text(320, rf"{_MAILBOX}@{_HOST}", "An email address is a mailbox, an @ and a host, such as user@example.com.")
]
URI = Annotated[
    str,
    Text(
        2048, r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+", "A URI has a scheme and no blanks, such as spiffe://example.com/web."
    ),
]
Network = Annotated[
    str,
    Text(
        43,
        cel="isIP(self) || (isCIDR(self) && cidr(self).masked() == cidr(self))",
        check=is_network,
        message="A network is an address and the length of its prefix without host bits, such as 10.0.0.0/8.",
    ),
]
DNSPattern = Annotated[
    str,
    Text(
        256,
        rf"(\*\*?\.|\.)?{_PATTERN_HOST}",
        "A DNS pattern is example.com, *.example.com for one label below it, or **.example.com for any depth below it.",
    ),
]
EmailPattern = Annotated[
    str,
    Text(
        254,
        rf"({_MAILBOX})?@\.?{_PATTERN_HOST}",
        "An email pattern is user@example.com, @example.com, or @.example.com for the hosts below it.",
    ),
]
URIPattern = Annotated[
    str, Text(512, r"[A-Za-z][A-Za-z0-9+.-]*://[!-~]+", "A URI pattern is a scheme, a host and the start of a path.")
]
NamespaceName = Annotated[
    str, Text(63, rf"\*|{_LABEL}", "A namespace is given by its name, or * stands for every namespace.")
]
NameText = Annotated[
    str,
    Text(
        128,
        r"[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*",
        "A part of a name is not empty and has no control characters.",
    ),
]
CommonName = Annotated[
    str,
    Text(
        64, r"[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*", "A name is not empty and has no control characters."
    ),
]
Country = Annotated[str, Text(2, "[A-Za-z]{2}", "A country is a code of two letters, such as DE.")]
HTTPURL = Annotated[str, Text(2048, "https?://[!-~]+", "This is not an http or https URL.")]
PlainURL = Annotated[
    str,
    Text(
        512,
        cel="self.startsWith('http://')",
        check=lambda text: text.startswith("http://"),
        message="The URL must be plain http: who fetches it is about to find out which certificates are valid.",
    ),
]
Subtree = Annotated[str, Text(512)]
Sentence = Annotated[str, Text(32768)]

_GO_DURATION = r"([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?"
GoDuration = Annotated[
    str, Text(24, rf"{_GO_DURATION}", "A duration has hours, minutes and seconds, such as 2160h or 1h30m.")
]
FileDuration = Annotated[
    str, Text(7, "[0-9]{0,5}[1-9][0-9]{0,5}[smhdw]", "A duration is a number above 0 and s, m, h, d or w, such as 24h.")
]


def seconds(duration: str) -> int:
    """A duration of hours, minutes and seconds in whole seconds."""
    found = re.fullmatch(_GO_DURATION, duration)
    assert found is not None, "the model has checked the text"
    hours, minutes, rest = (int(part[:-1]) if part else 0 for part in found.groups())
    return int(timedelta(hours=hours, minutes=minutes, seconds=rest).total_seconds())
