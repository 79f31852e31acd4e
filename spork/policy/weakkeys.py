"""Public keys that are weak whatever their size: each check gives the weakness as the end of a sentence, or None.

What is checked for RSA: size (a row of the algorithm table), exponent (FIPS 186-5 section 5.1: odd, 2^16 < e < 2^256), small
factors, close primes (Fermat), the ROCA fingerprint, and blocklists. ECDSA and ML-DSA keys are checked by their parser (curve,
point on the curve and not at infinity; length). Ed25519 points are checked here, because parsers take any 32 octets.

The lists of weak Debian keys (CVE-2008-0166) are too large to be part of this package. `parse_blocklist` reads them, and the
composition root hands the result to the policy engine; without a list nothing is blocked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache, lru_cache
from math import gcd, isqrt, prod

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spork.x509.algorithms import PublicKey, algorithm_of

MIN_RSA_BITS = 2048
MIN_EXPONENT = 65537
"""FIPS 186-5 section 5.1: greater than 2^16 and odd. Smaller ones fall to faulty padding checks and broadcast attacks."""
_MAX_EXPONENT = 1 << 256
FERMAT_ROUNDS = 100
"""As many as the Baseline Requirements section 6.1.1.3 ask: primes that fall within them share the upper half of their bits."""
_SMALL_PRIMES = 1000
_ROCA_PRIMES_LIMIT = 167
"""Primes up to here divide the M of the attack for every key size, so the fingerprint fits keys of all sizes."""
_ROCA_GENERATOR = 65537

_BLOCKED_LINE = re.compile(r"[0-9a-f]{20}|[0-9a-f]{40}|[0-9a-f]{64}")


def weakness_of(key: PublicKey, blocked: frozenset[str] = frozenset()) -> str | None:
    """Why the key must not be certified. `blocked` holds what `parse_blocklist` gave."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        found = rsa_weakness(numbers.n, numbers.e)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        found = None if algorithm_of(key) is not None else f"is on the curve {key.curve.name}, which is not supported"
    elif isinstance(key, ed25519.Ed25519PublicKey):
        found = ed25519_weakness(key.public_bytes_raw())
    else:
        found = None
    if found is None and blocked and not blocked.isdisjoint(_fingerprints(key)):
        found = "is on a list of keys that are known to others"
    return found


@lru_cache(maxsize=1024)
def rsa_weakness(modulus: int, exponent: int) -> str | None:
    """The first weakness of an RSA key. Cheap checks come first; all of them take well below a millisecond at 2048 bits."""
    return (
        _exponent_weakness(exponent)
        or _size_weakness(modulus)
        or _factor_weakness(modulus)
        or _roca_weakness(modulus)
        or _fermat_weakness(modulus)
    )


def _exponent_weakness(exponent: int) -> str | None:
    if exponent == 1:
        return "has the public exponent 1, with which signing changes nothing"
    if exponent % 2 == 0:
        return "has an even public exponent, which no RSA key can have"
    if exponent < MIN_EXPONENT:
        return f"has the public exponent {exponent}; at least {MIN_EXPONENT} is needed"
    if exponent >= _MAX_EXPONENT:
        return "has a public exponent of more than 256 bits"
    return None


def _size_weakness(modulus: int) -> str | None:
    bits = modulus.bit_length()
    if bits < MIN_RSA_BITS:
        return f"is an RSA key of {bits} bits; at least {MIN_RSA_BITS} are needed"
    if bits not in (2048, 3072, 4096):
        return f"is an RSA key of {bits} bits; 2048, 3072 and 4096 are supported"
    return None


def _factor_weakness(modulus: int) -> str | None:
    if gcd(modulus, _primorial()) != 1:
        return "has a modulus that is divisible by a small prime"
    return None


def _fermat_weakness(modulus: int) -> str | None:
    """Fermat's method: n = a^2 - b^2 is found at once if the primes a+b and a-b are close together."""
    a = isqrt(modulus)
    if a * a == modulus:
        return "has a modulus that is the square of one number"
    for _ in range(FERMAT_ROUNDS):
        a += 1
        remainder = a * a - modulus
        # Squares end in few of the values modulo 64, which saves most of the square roots.
        if _SQUARES_64 >> (remainder & 63) & 1 and isqrt(remainder) ** 2 == remainder:
            return "has two primes that are so close together that anybody can find them (Fermat)"
    return None


_SQUARES_64 = sum(1 << value for value in {number * number % 64 for number in range(64)})


def _roca_weakness(modulus: int) -> str | None:
    """Infineon's faulty generator took primes of the form k*M + (65537^a mod M).

    So the modulus is a power of 65537 modulo every prime that divides M, which happens by chance once in about 2^27 keys.
    Source: Nemec, Sys, Svenda, Klinec, Matyas: The Return of Coppersmith's Attack, CCS 2017, section 3 (CVE-2017-15361).
    """
    if all(powers >> (modulus % prime) & 1 for prime, powers in _roca_fingerprint()):
        return "comes from a generator whose keys can be factored (ROCA, CVE-2017-15361)"
    return None


@cache
def _roca_fingerprint() -> tuple[tuple[int, int], ...]:
    """For each odd prime up to 167 the set of residues that are powers of 65537, as bits of a number."""
    fingerprint = []
    for prime in _primes_up_to(_ROCA_PRIMES_LIMIT)[1:]:
        powers, residue = 0, 1
        while not powers >> residue & 1:
            powers |= 1 << residue
            residue = residue * _ROCA_GENERATOR % prime
        fingerprint.append((prime, powers))
    return tuple(fingerprint)


@cache
def _primorial() -> int:
    # The thousandth prime is 7919.
    return prod(_primes_up_to(7919)[:_SMALL_PRIMES])


def _primes_up_to(limit: int) -> list[int]:
    composite: set[int] = set()
    primes = []
    for number in range(2, limit + 1):
        if number not in composite:
            primes.append(number)
            composite.update(range(number * number, limit + 1, number))
    return primes


_P = 2**255 - 19
"""The field of Curve25519 (RFC 8032 section 5.1)."""
_D = -121665 * pow(121666, -1, _P) % _P


def ed25519_weakness(encoded: bytes) -> str | None:
    """Refuses what is no point, what is not written in the one canonical way, and the eight points of small order."""
    y = int.from_bytes(encoded, "little") & ((1 << 255) - 1)
    if y >= _P:
        return "is an Ed25519 key that is not canonically encoded"
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if x_squared != 0 and pow(x_squared, (_P - 1) // 2, _P) != 1:
        return "is an Ed25519 key that is not a point of the curve"
    if y in _small_order_ordinates():
        return "is an Ed25519 key of small order, for which anybody can sign"
    return None


@cache
def _small_order_ordinates() -> frozenset[int]:
    """The y of all points whose order divides 8.

    Order 1 has y=1, order 2 y=-1, order 4 y=0. A point of order 8 doubles to y=0, hence x^2 = -y^2; in the equation of the
    curve that gives d*y^4 + 2*y^2 - 1 = 0.
    """
    found = {0, 1, _P - 1}
    root = _square_root((1 + _D) % _P)
    assert root is not None
    for numerator in (root - 1, -root - 1):
        y = _square_root(numerator * pow(_D, -1, _P) % _P)
        if y is not None:
            found |= {y, _P - y}
    return frozenset(found)


def _square_root(value: int) -> int | None:
    # RFC 8032 section 5.1.3: p = 5 mod 8.
    root = pow(value, (_P + 3) // 8, _P)
    if root * root % _P != value:
        root = root * pow(2, (_P - 1) // 4, _P) % _P
    return root if root * root % _P == value else None


def parse_blocklist(lines: Iterable[str]) -> frozenset[str]:
    """Reads hexadecimal fingerprints, one a line; blank lines and `#` comments are skipped.

    Three forms are known: 20 digits (the last 20 of the SHA-1 of `Modulus=<hex>` and a newline, as Debian's
    openssl-blacklist has them), 40 digits (the whole of it), 64 digits (SHA-256 of the SubjectPublicKeyInfo).
    Raises ValueError naming the line.
    """
    found = set()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip().lower()
        if not text:
            continue
        if not _BLOCKED_LINE.fullmatch(text):
            raise ValueError(f"line {number} is not a fingerprint of 20, 40 or 64 hexadecimal digits")
        found.add(text[-20:] if len(text) == 40 else text)
    return frozenset(found)


def _fingerprints(key: PublicKey) -> set[str]:
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    found = {hashlib.sha256(spki).hexdigest()}
    if isinstance(key, rsa.RSAPublicKey):
        text = f"Modulus={key.public_numbers().n:X}\n".encode()
        found.add(hashlib.sha1(text, usedforsecurity=False).hexdigest()[-20:])
    return found
