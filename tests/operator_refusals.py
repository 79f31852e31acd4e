"""Every way to get a resource wrong, with the sentence that must come back from the API server and from the models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from operator_world import DROP, PEM


@dataclass(frozen=True)
class Refusal:
    """A change of a valid object, and a part of the sentence that must come back."""

    id: str
    kind: str
    changes: dict[str, Any]
    sentence: str
    python: str | None = None
    """What the models say, where the API server has words of its own for it."""


def _same(path: str, value: Any, times: int = 2) -> dict[str, Any]:
    return {path: [value] * times}


_ROOT, _POLICY, _NESTED, _TOP = "spec/root", "spec/policyCAs/0", "spec/policyCAs/0/issuingCAs/0", "spec/issuingCAs/0"
_CROSS = "spec/crossCertificates/0"
_ALLOWED = "spec/allowedNamespaces"
REFUSALS = (
    # Certificate
    Refusal("a certificate without any name", "Certificate", {"spec/dnsNames": DROP}, "needs at least one name"),
    Refusal(
        "a TLS server with a common name alone",
        "Certificate",
        {"spec/dnsNames": DROP, "spec/commonName": "www", "spec/profile": "tls-server"},
        "needs dnsNames or ipAddresses",
    ),
    Refusal(
        "a TLS server whose common name is none of its names",
        "Certificate",
        {"spec/commonName": "other.example.com", "spec/profile": "tls-server"},
        "repeats one of dnsNames or ipAddresses",
    ),
    Refusal(
        "a certificate for ten minutes",
        "Certificate",
        {"spec/duration": "10m", "spec/renewBefore": DROP},
        "at least 1h",
    ),
    Refusal("a certificate for a century", "Certificate", {"spec/duration": "876000h"}, "at most 96360h"),
    Refusal(
        "a renewal a minute before the end", "Certificate", {"spec/renewBefore": "1m"}, "renewBefore is at least 5m"
    ),
    Refusal(
        "a renewal before the beginning", "Certificate", {"spec/renewBefore": "2160h"}, "must be shorter than duration"
    ),
    Refusal("a duration in days", "Certificate", {"spec/duration": "90d"}, "A duration has hours, minutes and seconds"),
    Refusal("a DNS name with a blank", "Certificate", {"spec/dnsNames": ["www example.com"]}, "A DNS name has labels"),
    Refusal(
        "a wildcard in the middle", "Certificate", {"spec/dnsNames": ["www.*.example.com"]}, "A DNS name has labels"
    ),
    Refusal(
        "an IP address with a mask",
        "Certificate",
        {"spec/ipAddresses": ["10.0.0.0/8"]},
        "An IP address is IPv4 or IPv6",
    ),
    Refusal(
        "an IP address out of range",
        "Certificate",
        {"spec/ipAddresses": ["10.0.0.256"]},
        "An IP address is IPv4 or IPv6",
    ),
    Refusal(
        "a mailbox without a host", "Certificate", {"spec/emailAddresses": ["ada"]}, "An email address is a mailbox"
    ),
    Refusal("a URI without a scheme", "Certificate", {"spec/uris": ["//example.com"]}, "A URI has a scheme"),
    Refusal("a country with a digit", "Certificate", {"spec/subject/countries": ["D1"]}, "A country is a code of two"),
    Refusal("a common name of line feeds", "Certificate", {"spec/commonName": "\n"}, "A name is not empty"),
    Refusal(
        "a locality of blanks", "Certificate", {"spec/subject/localities": ["  "]}, "A part of a name is not empty"
    ),
    Refusal("a Secret named in capitals", "Certificate", {"spec/secretName": "WEB"}, "The name of an object has"),
    Refusal(
        "a key of a Secret with a slash",
        "Certificate",
        {"spec/keystores": {"pkcs12": {"create": True, "passwordSecretRef": {"name": "p", "key": "a/b"}}}},
        "A key of a Secret has",
    ),
    Refusal(
        "an issuer of another kind",
        "Certificate",
        {"spec/issuerRef/kind": "Vault"},
        'supported values: "Issuer"',
        "none of",
    ),
    Refusal("an issuer of cert-manager", "Certificate", {"spec/issuerRef/group": "cert-manager.io"}, "spork-ca.org"),
    Refusal("no issuer", "Certificate", {"spec/issuerRef": DROP}, "Required value", "is missing"),
    Refusal(
        "a CA profile",
        "Certificate",
        {"spec/profile": "issuing-ca"},
        "Unsupported value",
        "unknown profile 'issuing-ca'",
    ),
    Refusal(
        "an unknown algorithm",
        "Certificate",
        {"spec/privateKey/algorithm": "rsa-1024"},
        "Unsupported value",
        "unknown algorithm",
    ),
    Refusal("an unknown usage", "Certificate", {"spec/usages": ["cert sign"]}, "Unsupported value", "unknown usage"),
    Refusal(
        "the same DNS name twice", "Certificate", _same("spec/dnsNames", "a.example.com"), "duplicate entries", "twice"
    ),
    Refusal(
        "a misspelt key",
        "Certificate",
        {"spec/dnsName": ["a"]},
        "field not declared in schema",
        "did you mean 'dnsNames'",
    ),
    Refusal(
        "an unknown deletion policy", "Certificate", {"spec/deletionPolicy": "Delete"}, "Unsupported value", "none of"
    ),
    # Issuer and ClusterIssuer
    Refusal(
        "an issuer with a dot in its name", "Issuer", {"metadata/name": "a.b"}, "The name of an issuer stands in URLs"
    ),
    Refusal(
        "an issuer of a namespace that sends validators into the CA's network",
        "Issuer",
        {"spec/protocols": {"acme": {"networks": ["169.254.169.254/32"]}}},
        "only a ClusterIssuer has them",
    ),
    Refusal(
        "an issuer of a namespace that sends validators to other ports",
        "Issuer",
        {"spec/protocols": {"acme": {"ports": {"http-01": 5432}}}},
        "only a ClusterIssuer has them",
    ),
    Refusal("an issuer with a word of EST", "ClusterIssuer", {"metadata/name": "cacerts"}, "The name is reserved"),
    Refusal("an issuer without profiles", "Issuer", {"spec/profiles": []}, "at least 1 item", "at least 1 item"),
    Refusal(
        "an administrators' profile",
        "Issuer",
        {"spec/profiles": ["admin-viewer"]},
        "Unsupported value",
        "unknown profile",
    ),
    Refusal("the id of a CA in capitals", "Issuer", {"spec/ca": "Web"}, "The id of a CA has lower-case"),
    Refusal(
        "a DNS pattern with a star inside",
        "Issuer",
        {"spec/names/permit/dns": ["a.*.b"]},
        "A DNS pattern is example.com",
    ),
    Refusal("a network with host bits", "Issuer", {"spec/names/permit/ip": ["10.0.0.1/8"]}, "A network is an address"),
    Refusal(
        "an email pattern without an @", "Issuer", {"spec/names/deny/email": ["example.com"]}, "An email pattern is"
    ),
    Refusal(
        "a URI pattern without a host", "Issuer", {"spec/names/permit/uri": ["https:"]}, "A URI pattern is a scheme"
    ),
    Refusal(
        "a life of zero days",
        "Issuer",
        {"spec/maxValidityDays": 0},
        "greater than or equal to 1",
        "greater than or equal to 1",
    ),
    Refusal(
        "an unknown challenge",
        "ClusterIssuer",
        {"spec/protocols/acme/challenges": ["http-02"]},
        "Unsupported",
        "unknown challenge",
    ),
    Refusal(
        "a port of an unknown challenge",
        "ClusterIssuer",
        {"spec/protocols/acme/ports": {"http-02": 80}},
        "given by challenge",
    ),
    Refusal(
        "terms without a URL",
        "ClusterIssuer",
        {"spec/protocols/acme/termsOfService": "see below"},
        "not an http or https URL",
    ),
    Refusal(
        "a subject of tokens without a namespace",
        "Issuer",
        {"spec/protocols": {"token": {"subjects": ["web"], "names": ["{serviceaccount}.svc"]}}},
        "A subject is namespace:serviceaccount",
    ),
    Refusal(
        "a placeholder that could run into its neighbour",
        "Issuer",
        {"spec/protocols": {"token": {"subjects": ["*:*"], "names": ["{serviceaccount}-{namespace}.svc"]}}},
        "A template is a name in which",
    ),
    Refusal(
        "subjects of tokens without names",
        "ClusterIssuer",
        {"spec/protocols": {"token": {"subjects": ["*:*"]}}},
        "one needs the other",
    ),
    Refusal(
        "an audience with a blank",
        "ClusterIssuer",
        {"spec/protocols": {"token": {"audiences": ["a b"]}}},
        "An audience is one word",
    ),
    Refusal("namespaces allowed by nothing", "ClusterIssuer", {_ALLOWED: {}}, "needs names or matchLabels"),
    Refusal("a star beside a namespace", "ClusterIssuer", {_ALLOWED: {"names": ["*", "a"]}}, "mean nothing"),
    Refusal(
        "a pattern of namespaces",
        "ClusterIssuer",
        {_ALLOWED: {"names": ["team-*"]}},
        "A namespace is given by its name",
    ),
    # Hierarchy
    Refusal("keys in hardware", "Hierarchy", {f"{_ROOT}/keyMode": "pkcs11"}, "Unsupported value", "none of"),
    Refusal("two kinds of life", "Hierarchy", {f"{_ROOT}/validityDays": 9}, "validityYears or validityDays"),
    Refusal("no life at all", "Hierarchy", {f"{_NESTED}/validityYears": DROP}, "validityYears or validityDays"),
    Refusal("a CA without a name", "Hierarchy", {f"{_ROOT}/commonName": DROP}, "Give commonName with"),
    Refusal("a CA named twice", "Hierarchy", {f"{_ROOT}/subject": "CN=Root"}, "Give commonName with"),
    Refusal(
        "a whole name and a part",
        "Hierarchy",
        {f"{_ROOT}/commonName": DROP, f"{_ROOT}/subject": "CN=Root", f"{_ROOT}/country": "DE"},
        "subject is the whole name",
    ),
    Refusal(
        "the id of the administrators' CA",
        "Hierarchy",
        {f"{_ROOT}/id": "management", f"{_CROSS}/issuer": "tls"},
        "The id is reserved",
    ),
    Refusal(
        "delta lists of a sealed CA",
        "Hierarchy",
        {f"{_POLICY}/crl/deltaInterval": "1h"},
        "Delta lists need an online key",
    ),
    Refusal(
        "a request handed in for a key that is here",
        "Hierarchy",
        {f"{_POLICY}/requestRef": {"namespace": "pki", "name": "tls"}},
        "requestRef hands in the request of a CA whose key is elsewhere",
    ),
    Refusal(
        "a certificate in a namespace that can have no such name",
        "Hierarchy",
        {f"{_ROOT}/certificateRef": {"namespace": "PKI", "name": "root"}},
        "The namespace is one by its name",
    ),
    Refusal(
        "a certificate under a key that no object has",
        "Hierarchy",
        {f"{_ROOT}/certificateRef": {"namespace": "pki", "name": "root", "key": "a/b"}},
        "A key has letters, digits",
    ),
    Refusal(
        "a certificate in a Deployment",
        "Hierarchy",
        {f"{_ROOT}/certificateRef": {"kind": "Deployment", "namespace": "pki", "name": "root"}},
        'supported values: "ConfigMap", "Secret"',
        "'Deployment' is none of 'ConfigMap' or 'Secret'",
    ),
    Refusal(
        "an interval without a unit", "Hierarchy", {f"{_ROOT}/crl/interval": "24"}, "A duration is a number above 0"
    ),
    Refusal(
        "an empty limit of names",
        "Hierarchy",
        {f"{_ROOT}/nameConstraints": {}},
        "nameConstraints need permitted or excluded",
    ),
    Refusal(
        "a list fetched by TLS", "Hierarchy", {f"{_ROOT}/crlURLs": ["https://a.example/root.crl"]}, "must be plain http"
    ),
    Refusal("a policy that is no OID", "Hierarchy", {f"{_ROOT}/policies": ["gold"]}, "An object identifier is numbers"),
    Refusal(
        "an unknown extended usage",
        "Hierarchy",
        {f"{_POLICY}/extendedKeyUsage": ["serverauth"]},
        "An extended key usage is",
    ),
    Refusal(
        "nested CAs of one id",
        "Hierarchy",
        {
            "spec/policyCAs": [
                {
                    "id": one,
                    "commonName": one,
                    "algorithm": "ed25519",
                    "validityYears": 9,
                    "issuingCAs": [{"id": "web", "commonName": "Web", "algorithm": "ed25519", "validityYears": 5}],
                }
                for one in ("tls", "code")
            ]
        },
        "Two CAs of the tree have the same id",
    ),
    Refusal(
        "a policy CA with the root's id", "Hierarchy", {f"{_POLICY}/id": "root"}, "Two CAs of the tree have the same id"
    ),
    Refusal(
        "an issuing CA with a policy CA's id",
        "Hierarchy",
        {f"{_TOP}/id": "tls"},
        "Two CAs of the tree have the same id",
    ),
    Refusal("a parent that is not there", "Hierarchy", {f"{_TOP}/parent": "nobody"}, "A parent is the id of the root"),
    Refusal("another parent for a nested CA", "Hierarchy", {f"{_NESTED}/parent": "root"}, "has that one as its parent"),
    Refusal("an issuer on a policy CA", "Hierarchy", {"spec/issuers/0/ca": "tls"}, "ca is the id of an issuing CA"),
    Refusal("two default issuers", "Hierarchy", {"spec/issuers/1/default": True}, "One issuer at most is the default"),
    Refusal(
        "an issuer of the tree with a dot",
        "Hierarchy",
        {"spec/issuers/0/name": "a.b"},
        "has letters, digits and hyphens",
    ),
    Refusal("a cross-certificate of nobody", "Hierarchy", {f"{_CROSS}/subject": DROP}, "by exactly one of subject"),
    Refusal(
        "a cross-certificate of two", "Hierarchy", {f"{_CROSS}/subjectCertificate": PEM}, "by exactly one of subject"
    ),
    Refusal("a cross-certificate of itself", "Hierarchy", {f"{_CROSS}/subject": "root"}, "cannot cross-certify itself"),
    Refusal(
        "a file in a resource",
        "Hierarchy",
        {f"{_CROSS}/subject": DROP, f"{_CROSS}/subjectCSR": "a.csr"},
        "must be the PEM text itself",
    ),
    Refusal("a CA without an id", "Hierarchy", {f"{_ROOT}/id": DROP}, "Required value", "is missing"),
    Refusal(
        "too long a path",
        "Hierarchy",
        {f"{_ROOT}/pathLength": 11},
        "less than or equal to 10",
        "less than or equal to 10",
    ),
    # Ceremony
    Refusal("a quorum that cannot be reached", "Ceremony", {"spec/quorum": 2}, "could never be reached"),
    Refusal(
        "a fingerprint of SHA-1",
        "Ceremony",
        {"spec/custodians/0/certificateFingerprint": "0f" * 20},
        "A hash is 64 hexadecimal",
    ),
    Refusal(
        "an import of nothing", "Ceremony", {"spec/actions/0/kind": "ImportCertificate"}, "certificate is given for"
    ),
    Refusal("a certificate for a list", "Ceremony", {"spec/actions/0/certificate": PEM}, "certificate is given for"),
    Refusal(
        "a custodian with blanks", "Ceremony", {"spec/custodians/0/name": "Ada L."}, "This is a word of lower-case"
    ),
    Refusal(
        "the same action twice",
        "Ceremony",
        _same("spec/actions", {"name": "a", "kind": "SignCRL", "authority": "root"}),
        "duplicate entries",
        "twice",
    ),
)
CHANGES = (
    Refusal(
        "another name for the root", "Hierarchy", {f"{_ROOT}/commonName": "Other"}, "The name of a CA never changes"
    ),
    Refusal(
        "a further part of a nested name", "Hierarchy", {f"{_NESTED}/country": "DE"}, "The name of a CA never changes"
    ),
    Refusal(
        "another id for the root",
        "Hierarchy",
        {f"{_ROOT}/id": "other", f"{_CROSS}/issuer": "tls"},
        "The id of the root never changes",
    ),
    Refusal("another parent", "Hierarchy", {f"{_TOP}/parent": "tls"}, "The parent of a CA never changes"),
    Refusal(
        "another parent of a policy CA", "Hierarchy", {f"{_POLICY}/parent": "root"}, "The parent of a CA never changes"
    ),
    Refusal("another quorum", "Ceremony", {"spec/purpose": "Something else."}, "A ceremony never changes"),
)
