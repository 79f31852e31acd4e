"""Weak public keys. Every vector is made here, from the definition of the weakness."""

from __future__ import annotations

import hashlib
import random
from itertools import count

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spork.policy import weakkeys as module
from spork.policy.weakkeys import ed25519_weakness, parse_blocklist, rsa_weakness, weakness_of

E = 65537
P25519 = 2**255 - 19
D = -121665 * pow(121666, -1, P25519) % P25519
SEEDED = random.Random(20170930)


def is_prime(number: int) -> bool:
    """Miller-Rabin with fixed bases: enough for numbers that nobody chose to fool it."""
    if number < 2 or any(number % small == 0 and number != small for small in (2, 3, 5, 7, 11, 13, 17, 19, 23)):
        return False
    twos = (number - 1 & -(number - 1)).bit_length() - 1
    odd = (number - 1) >> twos
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        if not any((power := power * power % number) == number - 1 for _ in range(twos - 1)):
            return False
    return True


def prime_from(start: int, step: int = 2) -> int:
    return next(number for number in count(start | 1, step) if is_prime(number))


def random_prime(bits: int) -> int:
    return prime_from(SEEDED.getrandbits(bits) | 3 << (bits - 2))


def small_primes(limit: int) -> list[int]:
    return [number for number in range(2, limit) if all(number % other for other in range(2, int(number**0.5) + 1))]


def roca_prime(bits: int) -> int:
    """k*M + 65537^a mod M, as the faulty library chose primes; M is that of keys of 1984 to 3936 bits."""
    product = 1
    for prime in small_primes(702):
        product *= prime
    while True:
        k = SEEDED.getrandbits(bits - product.bit_length()) | 1 << (bits - product.bit_length() - 1)
        candidate = k * product + pow(E, SEEDED.getrandbits(64), product)
        if candidate.bit_length() == bits and is_prime(candidate):
            return candidate


def modulus_2048(first: int) -> int:
    """A modulus of exactly 2048 bits with this factor."""
    return first * prime_from((1 << 2047) // first + SEEDED.getrandbits(900))


STRONG = rsa.generate_private_key(E, 2048).public_key().public_numbers().n


def test_a_sound_modulus_has_no_weakness() -> None:
    assert rsa_weakness(STRONG, E) is None
    assert rsa_weakness(STRONG, (1 << 256) - 1) is None


@pytest.mark.parametrize(
    ("exponent", "word"),
    [
        (1, "changes nothing"),
        (65538, "even"),
        (2, "even"),
        (0, "even"),
        (3, "at least"),
        (17, "at least"),
        (65535, "at least"),
        (2**256 + 1, "256 bits"),
    ],
)
def test_a_weak_exponent_is_named(exponent: int, word: str) -> None:
    assert word in str(rsa_weakness(STRONG, exponent))


@pytest.mark.parametrize("bits", [512, 1024, 2047])
def test_a_short_modulus_is_refused(bits: int) -> None:
    assert "at least 2048" in str(rsa_weakness(1 << (bits - 1) | 1, E))


@pytest.mark.parametrize("bits", [2049, 2056, 4095, 8192, 16384])
def test_a_size_outside_of_the_table_is_refused(bits: int) -> None:
    assert "are supported" in str(rsa_weakness(1 << (bits - 1) | 1, E))


@pytest.mark.parametrize("factor", [2, 3, 101, 7907, 7919])
def test_a_small_factor_is_found(factor: int) -> None:
    modulus = factor * ((1 << 2047) // factor + 12345)
    assert modulus.bit_length() == 2048
    assert "small prime" in str(rsa_weakness(modulus, E))


def test_the_first_factor_beyond_the_thousandth_prime_is_not_searched() -> None:
    modulus = modulus_2048(7927 * random_prime(1000))
    assert rsa_weakness(modulus, E) is None


def test_close_primes_are_found_and_distant_ones_are_not() -> None:
    first = random_prime(1024)
    assert "Fermat" in str(rsa_weakness(first * prime_from(first + 2), E))
    assert "Fermat" in str(rsa_weakness(first * prime_from(first + (1 << 512)), E))
    assert rsa_weakness(first * prime_from(first + (1 << 600)), E) is None


def test_a_square_is_found() -> None:
    prime = random_prime(1024)
    assert "square" in str(rsa_weakness(prime * prime, E))


def test_the_shortcut_for_squares_agrees_with_the_definition() -> None:
    squares = {number * number % 64 for number in range(64)}
    assert [bool(module._SQUARES_64 >> value & 1) for value in range(64)] == [value in squares for value in range(64)]


def test_a_key_of_the_faulty_generator_is_found() -> None:
    modulus = roca_prime(1024) * roca_prime(1024)
    while modulus.bit_length() != 2048:
        modulus = roca_prime(1024) * roca_prime(1024)
    assert "ROCA" in str(rsa_weakness(modulus, E))


def test_one_faulty_prime_alone_has_no_fingerprint() -> None:
    assert rsa_weakness(modulus_2048(roca_prime(1024)), E) is None


def test_the_roca_fingerprint_has_the_38_primes_and_is_rare() -> None:
    fingerprint = module._roca_fingerprint()
    assert [prime for prime, _ in fingerprint] == small_primes(168)[1:]
    assert dict(fingerprint)[11] == sum(1 << residue for residue in (1, 10))
    chance = 1.0
    for prime, powers in fingerprint:
        chance *= powers.bit_count() / (prime - 1)
    assert chance < 2**-25


def test_keys_of_every_family_pass() -> None:
    assert weakness_of(rsa.generate_private_key(E, 2048).public_key()) is None
    assert weakness_of(ec.generate_private_key(ec.SECP521R1()).public_key()) is None
    assert weakness_of(ed25519.Ed25519PrivateKey.generate().public_key()) is None
    assert weakness_of(mldsa.MLDSA44PrivateKey.generate().public_key()) is None


@pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.SECP224R1(), ec.BrainpoolP256R1()], ids=lambda curve: curve.name)
def test_a_curve_outside_of_the_table_is_named(curve: ec.EllipticCurve) -> None:
    assert curve.name in str(weakness_of(ec.generate_private_key(curve).public_key()))


# An own implementation of the curve, by the formulas of RFC 8032 section 5.1.4, to find the points of small order.
Point = tuple[int, int]


def add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2 % P25519
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P25519) % P25519,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P25519) % P25519,
    )


def times(number: int, point: Point) -> Point:
    total: Point = (0, 1)
    while number:
        total = add(total, point) if number & 1 else total
        point, number = add(point, point), number >> 1
    return total


def point_with(y: int) -> Point | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P25519) % P25519
    root = pow(square, (P25519 + 3) // 8, P25519)
    for x in (root, root * pow(2, (P25519 - 1) // 4, P25519) % P25519):
        if x * x % P25519 == square:
            return x, y
    return None


def points_of_small_order() -> set[Point]:
    """A point of the whole curve times the order of the large subgroup has an order that divides 8."""
    order = 2**252 + 27742317777372353535851937790883648493
    found: set[Point] = set()
    for y in count(2):
        point = point_with(y)
        if point is not None:
            small = times(order, point)
            found |= {times(number, small) for number in range(8)}
        if len(found) == 8:
            return found
    raise AssertionError


def test_all_eight_points_of_small_order_are_refused_with_either_sign() -> None:
    points = points_of_small_order()
    assert len(points) == 8
    for x, y in points:
        for sign in (x & 1, ~x & 1):
            encoded = (y | sign << 255).to_bytes(32, "little")
            assert "small order" in str(ed25519_weakness(encoded)), (x, y)


@pytest.mark.parametrize("y", [P25519, P25519 + 1, 2**255 - 1])
def test_an_ordinate_beyond_the_field_is_refused(y: int) -> None:
    assert "canonically" in str(ed25519_weakness(y.to_bytes(32, "little")))


def test_what_is_no_point_is_refused() -> None:
    y = next(y for y in count(2) if point_with(y) is None)
    assert "not a point" in str(ed25519_weakness(y.to_bytes(32, "little")))


def test_a_weak_ed25519_key_is_found_although_its_parser_takes_it() -> None:
    assert "small order" in str(weakness_of(ed25519.Ed25519PublicKey.from_public_bytes(bytes([1]) + bytes(31))))


def test_a_blocked_key_is_found_by_each_form_of_its_fingerprint() -> None:
    key = rsa.generate_private_key(E, 2048).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    modulus = hashlib.sha1(f"Modulus={key.public_numbers().n:X}\n".encode()).hexdigest()
    for text in (modulus[-20:], modulus, hashlib.sha256(spki).hexdigest().upper()):
        blocked = parse_blocklist(["# weak keys", "", "0" * 20, f"{text}  # found 2026"])
        assert len(blocked) == 2
        assert "known to others" in str(weakness_of(key, blocked))
    assert weakness_of(key, parse_blocklist(["0" * 20, "1" * 64])) is None


@pytest.mark.parametrize("line", ["abc", "g" * 20, "0" * 21, "0" * 20 + " " + "1" * 20])
def test_a_bad_line_of_a_blocklist_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_blocklist(["0" * 20, line])
