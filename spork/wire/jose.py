"""Signed JSON as ACME sends it: flattened JWS with a closed list of algorithms, and the public keys that verify it.

What is accepted is less than JOSE allows: one signature, protected header only, no `crit`, no unencoded payload, no `none`
and no HMAC, base64url in its only canonical form, and no JSON object with a member twice.
Sources: RFC 7515 (JWS), RFC 7517 and 7518 (JWK, JWA), RFC 7638 (thumbprint), RFC 8037 (Ed25519), RFC 9964 (ML-DSA),
RFC 8555 section 6.2 (what ACME demands).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spork.errors import Code, SporkError
from spork.x509.algorithms import PublicKey

MAX_JWS_OCTETS = 64 * 1024
"""Largest message. A finalize with an ML-DSA-87 key and 100 names stays below a third of it."""

_MAX_HEADER_OCTETS = 16 * 1024
_MAX_OPENERS = 512
"""Brackets and braces in one JSON text. It bounds the nesting far below the parser's own limit, whatever is inside."""

_RSA_MIN_BITS, _RSA_MAX_BITS = 2048, 8192


def b64url_encode(data: bytes) -> str:
    """base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64url_decode(text: str) -> bytes:
    """Inverse of `b64url_encode`: one text for each value. Padding, line breaks, other alphabets, stray bits raise ValueError."""
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError("not base64url") from error
    # The decoder skips what it does not know; only the canonical text comes back as it was.
    if b64url_encode(data) != text:
        raise ValueError("not base64url in its canonical form, without padding")
    return data


def strict_object(data: bytes, what: str) -> dict[str, Any]:
    """Parses a JSON object. Refuses doubled members, NaN, lone surrogates, NUL, and texts with very many nested values.

    Raises SporkError(MALFORMED) with `what` in its sentence.
    """
    if data.count(b"[") + data.count(b"{") > _MAX_OPENERS:
        raise SporkError(Code.MALFORMED, f"{what} holds more lists and objects than any request needs.")
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_no_constant)
        if "\\u" in text and "\\u0000" in json.dumps(value, ensure_ascii=False).encode("utf-8").decode("utf-8"):
            raise ValueError("the character NUL")
    except (ValueError, RecursionError) as error:
        raise SporkError(Code.MALFORMED, f"{what} is not acceptable JSON: {_reason(error)}.") from error
    if not isinstance(value, dict):
        raise SporkError(Code.MALFORMED, f"{what} is not a JSON object.")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    if isinstance(error, UnicodeError):
        return "it is not well-formed UTF-8"
    return str(error) or "it is nested too deep"


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has the same member twice")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Keys --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key that came as a JWK, parsed once and good for many signatures."""

    jwk: Mapping[str, str]
    """Only the members that the thumbprint covers."""
    thumbprint: bytes
    """SHA-256 of the canonical JWK (RFC 7638), 32 octets."""
    key: PublicKey
    algorithms: tuple[str, ...]
    """The `alg` values that this key may verify."""

    @property
    def thumbprint_text(self) -> str:
        """base64url, as key authorizations carry it (RFC 8555 section 8.1)."""
        return b64url_encode(self.thumbprint)

    def spki(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, algorithm: str, message: bytes, signature: bytes) -> None:
        """Raises SporkError: BAD_SIGNATURE_ALGORITHM if the key is of another kind, BAD_SIGNATURE."""
        if algorithm not in self.algorithms:
            raise SporkError(Code.BAD_SIGNATURE_ALGORITHM, f"This key does not sign with {algorithm}.")
        try:
            _VERIFY[algorithm](self.key, message, signature)
        except (InvalidSignature, ValueError) as error:
            raise SporkError(Code.BAD_SIGNATURE, "The signature does not verify with this key.") from error


_Verify = Callable[[Any, bytes, bytes], None]


def _ecdsa(octets: int, hash_: hashes.HashAlgorithm) -> _Verify:
    scheme = ec.ECDSA(hash_)

    def verify(key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> None:
        # R and S side by side at full length (RFC 7518 section 3.4); X.509 has them as a SEQUENCE.
        if len(signature) != 2 * octets:
            raise ValueError("wrong length")
        r, s = int.from_bytes(signature[:octets], "big"), int.from_bytes(signature[octets:], "big")
        key.verify(encode_dss_signature(r, s), message, scheme)

    return verify


def _rs256(key: rsa.RSAPublicKey, message: bytes, signature: bytes) -> None:
    key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())


def _plain(key: Any, message: bytes, signature: bytes) -> None:
    # ML-DSA is used in its pure form and with an empty context (RFC 9964).
    key.verify(signature, message)


_VERIFY: dict[str, _Verify] = {
    "ES256": _ecdsa(32, hashes.SHA256()),
    "ES384": _ecdsa(48, hashes.SHA384()),
    "ES512": _ecdsa(66, hashes.SHA512()),
    "RS256": _rs256,
    "EdDSA": _plain,
    "ML-DSA-44": _plain,
    "ML-DSA-65": _plain,
    "ML-DSA-87": _plain,
}
ALGORITHMS: tuple[str, ...] = tuple(_VERIFY)
"""The closed list, for the `algorithms` member of a badSignatureAlgorithm problem (RFC 8555 section 6.2)."""

# Curve and `alg` by `crv` (RFC 7518 sections 3.4 and 6.2.1.1).
_CURVES: dict[str, tuple[ec.EllipticCurve, int, str]] = {
    "P-256": (ec.SECP256R1(), 32, "ES256"),
    "P-384": (ec.SECP384R1(), 48, "ES384"),
    "P-521": (ec.SECP521R1(), 66, "ES512"),
}
_ML_DSA: dict[str, type[mldsa.MLDSA44PublicKey] | type[mldsa.MLDSA65PublicKey] | type[mldsa.MLDSA87PublicKey]] = {
    "ML-DSA-44": mldsa.MLDSA44PublicKey,
    "ML-DSA-65": mldsa.MLDSA65PublicKey,
    "ML-DSA-87": mldsa.MLDSA87PublicKey,
}


def parse_jwk(jwk: Mapping[str, Any]) -> VerificationKey:
    """Reads a public JWK: EC on three curves, RSA of 2048 to 8192 bits, Ed25519, ML-DSA.

    Members that do not belong to the key itself (`kid`, `use`, ...) are ignored; private members are refused, because their
    owner has just given the key away. Raises SporkError(BAD_PUBLIC_KEY).
    """
    if any(member in jwk for member in ("d", "p", "q", "dp", "dq", "qi", "oth", "priv", "k")):
        raise _bad_key("it carries private or symmetric key material; make a new key and send its public part only")
    reader = _READERS.get(jwk.get("kty")) if isinstance(jwk.get("kty"), str) else None
    if reader is None:
        raise _bad_key("kty must be EC, RSA, OKP or AKP")
    try:
        required, key, algorithm = reader(jwk)
    except ValueError as error:
        raise _bad_key(str(error)) from error
    stated = jwk.get("alg", algorithm)
    if stated != algorithm:
        raise _bad_key(f"its alg is not the {algorithm} that belongs to such a key")
    canonical = {name: str(jwk[name]) for name in sorted(required)}
    # RFC 7638 section 3: the required members, sorted, without white space.
    octets = json.dumps(canonical, separators=(",", ":")).encode("ascii")
    return VerificationKey(canonical, hashlib.sha256(octets).digest(), key, (algorithm,))


_Parts = tuple[tuple[str, ...], PublicKey, str]


def _ec_key(jwk: Mapping[str, Any]) -> _Parts:
    crv = jwk.get("crv")
    if not isinstance(crv, str) or crv not in _CURVES:
        raise ValueError("crv must be P-256, P-384 or P-521")
    curve, octets, algorithm = _CURVES[crv]
    x, y = _octets(jwk, "x"), _octets(jwk, "y")
    if len(x) != octets or len(y) != octets:
        raise ValueError(f"x and y must have {octets} octets each on {crv}")
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve)
    try:
        return ("crv", "kty", "x", "y"), numbers.public_key(), algorithm
    except ValueError as error:
        raise ValueError(f"the point is not on {crv}") from error


def _rsa_key(jwk: Mapping[str, Any]) -> _Parts:
    n, e = _unsigned(jwk, "n"), _unsigned(jwk, "e")
    if not _RSA_MIN_BITS <= n.bit_length() <= _RSA_MAX_BITS or n.bit_length() % 8:
        raise ValueError(f"RSA keys have {_RSA_MIN_BITS} to {_RSA_MAX_BITS} bits, in whole octets")
    # SP 800-56B section 6.2: odd, above 2^16, below 2^256; larger than 32 bits only slows verification down.
    if not 1 << 16 < e < 1 << 32 or not e & 1 or not n & 1:
        raise ValueError("the RSA modulus and exponent must be odd, and the exponent between 2^16 and 2^32")
    return ("e", "kty", "n"), rsa.RSAPublicNumbers(e, n).public_key(), "RS256"


def _okp_key(jwk: Mapping[str, Any]) -> _Parts:
    if jwk.get("crv") != "Ed25519":
        raise ValueError("crv must be Ed25519")
    x = _octets(jwk, "x")
    if len(x) != 32:
        raise ValueError("an Ed25519 key has 32 octets")
    return ("crv", "kty", "x"), ed25519.Ed25519PublicKey.from_public_bytes(x), "EdDSA"


def _akp_key(jwk: Mapping[str, Any]) -> _Parts:
    algorithm = jwk.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _ML_DSA:
        raise ValueError("alg must be ML-DSA-44, ML-DSA-65 or ML-DSA-87")
    return ("alg", "kty", "pub"), _ML_DSA[algorithm].from_public_bytes(_octets(jwk, "pub")), algorithm


_READERS: dict[Any, Callable[[Mapping[str, Any]], _Parts]] = {
    "EC": _ec_key,
    "RSA": _rsa_key,
    "OKP": _okp_key,
    "AKP": _akp_key,
}


def _octets(jwk: Mapping[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is missing")
    try:
        return b64url_decode(value)
    except ValueError as error:
        raise ValueError(f"{name} is {error}") from error


def _unsigned(jwk: Mapping[str, Any], name: str) -> int:
    octets = _octets(jwk, name)
    if not octets or octets[0] == 0:
        # One number, one text (RFC 7518 section 2, Base64urlUInt): otherwise one key would have many thumbprints.
        raise ValueError(f"{name} is empty or has leading zeros")
    return int.from_bytes(octets, "big")


def _bad_key(reason: str) -> SporkError:
    return SporkError(Code.BAD_PUBLIC_KEY, f"The JWK is not acceptable: {reason}.")


# Messages ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A JWS as it claims to be. Nothing of it may be believed before `verify` has returned."""

    algorithm: str
    jwk: Mapping[str, Any] | None
    kid: str | None
    """Exactly one of `jwk` and `kid` is set."""
    nonce: str | None
    url: str
    payload: bytes
    signing_input: bytes
    signature: bytes

    def verify(self, key: VerificationKey) -> None:
        """Raises SporkError: BAD_SIGNATURE_ALGORITHM, BAD_SIGNATURE."""
        key.verify(self.algorithm, self.signing_input, self.signature)


def parse_jws(body: bytes) -> SignedMessage:
    """Reads a flattened JWS (RFC 7515 section 7.2.2) with the header that RFC 8555 section 6.2 demands.

    Raises SporkError: TOO_LARGE, MALFORMED, BAD_SIGNATURE_ALGORITHM.
    """
    if len(body) > MAX_JWS_OCTETS:
        raise SporkError(Code.TOO_LARGE, f"The message has more than {MAX_JWS_OCTETS} octets.")
    outer = strict_object(body, "The JWS")
    return _message(outer, "The JWS")


def parse_inner_jws(value: Mapping[str, Any]) -> SignedMessage:
    """The JWS inside of a key change (RFC 8555 section 7.3.5): by `jwk`, without a nonce. Raises as `parse_jws`."""
    message = _message(value, "The inner JWS")
    if message.jwk is None:
        raise SporkError(Code.MALFORMED, "The inner JWS must carry the new key as jwk.")
    if message.nonce is not None:
        raise SporkError(Code.MALFORMED, "The inner JWS must not carry a nonce.")
    return message


def _message(outer: Mapping[str, Any], what: str) -> SignedMessage:
    if "header" in outer or "signatures" in outer:
        raise SporkError(
            Code.MALFORMED, f"{what} must be flattened, with one signature and without an unprotected header."
        )
    protected, payload, signature = (_part(outer, name, what) for name in ("protected", "payload", "signature"))
    if len(protected[0]) > _MAX_HEADER_OCTETS:
        raise SporkError(Code.TOO_LARGE, f"The protected header of {what[0].lower()}{what[1:]} is too large.")
    header = strict_object(protected[1], "The protected header")
    algorithm = _checked_algorithm(header)
    jwk, kid = header.get("jwk"), header.get("kid")
    if (jwk is None) == (kid is None):
        raise SporkError(Code.MALFORMED, "The protected header must have exactly one of jwk and kid.")
    if (jwk is not None and not isinstance(jwk, dict)) or (kid is not None and not isinstance(kid, str)):
        raise SporkError(Code.MALFORMED, "In the protected header, jwk must be an object and kid a text.")
    nonce, url = header.get("nonce"), header.get("url")
    if not isinstance(url, str) or not (nonce is None or isinstance(nonce, str)):
        raise SporkError(Code.MALFORMED, "The protected header must have url, and nonce if any, as texts.")
    signing_input = f"{protected[0]}.{payload[0]}".encode("ascii")
    return SignedMessage(algorithm, jwk, kid, nonce, url, payload[1], signing_input, signature[1])


def _part(outer: Mapping[str, Any], name: str, what: str) -> tuple[str, bytes]:
    text = outer.get(name)
    if not isinstance(text, str):
        raise SporkError(Code.MALFORMED, f"{what} must have {name} as a text.")
    try:
        return text, b64url_decode(text)
    except ValueError as error:
        raise SporkError(Code.MALFORMED, f"{what} has a member {name} that is {error}.") from error


def _checked_algorithm(header: Mapping[str, Any]) -> str:
    if "crit" in header or "b64" in header:
        raise SporkError(Code.MALFORMED, "The protected header must not have crit or b64.")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _VERIFY:
        raise SporkError(Code.BAD_SIGNATURE_ALGORITHM, f"alg must be one of {', '.join(ALGORITHMS)}.")
    return algorithm
