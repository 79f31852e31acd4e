"""Flattened JWS and JWK: what is accepted, what is refused, and two other libraries as judges."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import josepy
import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jws as jwcrypto_jws

from spork.errors import Code, SporkError
from spork.wire.jose import (
    ALGORITHMS,
    MAX_JWS_OCTETS,
    b64url_decode,
    b64url_encode,
    parse_inner_jws,
    parse_jwk,
    parse_jws,
    strict_object,
)

KINDS = [
    pytest.param({"kty": "EC", "crv": "P-256"}, "ES256", id="ES256"),
    pytest.param({"kty": "EC", "crv": "P-384"}, "ES384", id="ES384"),
    pytest.param({"kty": "EC", "crv": "P-521"}, "ES512", id="ES512"),
    pytest.param({"kty": "RSA", "size": 2048}, "RS256", id="RS256"),
    pytest.param({"kty": "OKP", "crv": "Ed25519"}, "EdDSA", id="EdDSA"),
]
EC_KEY = jwcrypto_jwk.JWK.generate(kty="EC", crv="P-256")


def signed(key: jwcrypto_jwk.JWK, payload: bytes = b"{}", **changes: Any) -> bytes:
    """A message made by jwcrypto; changes to the header with None remove a member."""
    header: dict[str, Any] = {
        "alg": "ES256",
        "kid": "https://ca/acct/1",
        "nonce": "AAAA",
        "url": "https://ca/x",
    } | changes
    token = jwcrypto_jws.JWS(payload)
    token.allowed_algs = [*token.allowed_algs, "HS256"]
    token.add_signature(key, None, json.dumps({k: v for k, v in header.items() if v is not None}))
    return token.serialize(compact=False).encode()


def flat(protected: Any, payload: bytes = b"{}", signature: bytes = b"x", **outer: Any) -> bytes:
    """A message put together by hand, whatever the header is."""
    octets = protected if isinstance(protected, bytes) else json.dumps(protected).encode()
    parts = {
        "protected": b64url_encode(octets),
        "payload": b64url_encode(payload),
        "signature": b64url_encode(signature),
    }
    return json.dumps(parts | outer).encode()


def header(**changes: Any) -> dict[str, Any]:
    return {"alg": "ES256", "kid": "https://ca/acct/1", "nonce": "AAAA", "url": "https://ca/x"} | changes


def refusal_of(body: bytes) -> SporkError:
    with pytest.raises(SporkError) as caught:
        parse_jws(body)
    return caught.value


@pytest.mark.parametrize(("kind", "algorithm"), KINDS)
def test_messages_of_another_library_verify(kind: dict[str, Any], algorithm: str) -> None:
    other = jwcrypto_jwk.JWK.generate(**kind)
    message = parse_jws(signed(other, b'{"a":1}', alg=algorithm))
    message.verify(parse_jwk(other.export_public(as_dict=True)))
    assert (message.payload, message.algorithm, message.nonce, message.kid) == (
        b'{"a":1}', algorithm, "AAAA", "https://ca/acct/1",
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "algorithm"), KINDS)
def test_thumbprints_agree_with_two_other_libraries(kind: dict[str, Any], algorithm: str) -> None:
    other = jwcrypto_jwk.JWK.generate(**kind)
    public = other.export_public(as_dict=True)
    ours = parse_jwk(public | {"use": "sig", "kid": "ignored"})
    assert ours.thumbprint_text == other.thumbprint()
    if kind["kty"] != "OKP":
        assert josepy.JWK.from_json(dict(ours.jwk)).thumbprint() == ours.thumbprint


@pytest.mark.parametrize(("kind", "algorithm"), KINDS)
def test_a_changed_payload_does_not_verify(kind: dict[str, Any], algorithm: str) -> None:
    other = jwcrypto_jwk.JWK.generate(**kind)
    body = json.loads(signed(other, b'{"a":1}', alg=algorithm))
    body["payload"] = b64url_encode(b'{"a":2}')
    with pytest.raises(SporkError) as caught:
        parse_jws(json.dumps(body).encode()).verify(parse_jwk(other.export_public(as_dict=True)))
    assert caught.value.code is Code.BAD_SIGNATURE


@pytest.mark.parametrize("name", ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"])
def test_ml_dsa_messages_verify(name: str) -> None:
    private = getattr(mldsa, f"{name.replace('-', '')}PrivateKey").generate()
    key = parse_jwk({"kty": "AKP", "alg": name, "pub": b64url_encode(private.public_key().public_bytes_raw())})
    draft = parse_jws(flat(header(alg=name)))
    message = json.loads(flat(header(alg=name)))
    message["signature"] = b64url_encode(private.sign(draft.signing_input))
    parse_jws(json.dumps(message).encode()).verify(key)
    with pytest.raises(SporkError, match="does not verify"):
        draft.verify(key)


def test_the_ml_dsa_thumbprint_is_the_one_of_the_rfc_example() -> None:
    # The example key of the ML-DSA JOSE specification: the seed is 32 zero octets, the kid is the thumbprint.
    public = mldsa.MLDSA44PrivateKey.from_seed_bytes(bytes(32)).public_key().public_bytes_raw()
    key = parse_jwk({"kty": "AKP", "alg": "ML-DSA-44", "pub": b64url_encode(public)})
    assert key.thumbprint_text == "T4xl70S7MT6Zeq6r9V9fPJGVn76wfnXJ21-gyo0Gu6o"


def test_the_rsa_thumbprint_is_the_one_of_rfc_7638() -> None:
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn"
        "1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    assert (
        parse_jwk({"kty": "RSA", "n": n, "e": "AQAB"}).thumbprint_text == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    )


@pytest.mark.parametrize(
    "algorithm", ["none", "NONE", "HS256", "HS384", "HS512", "RS1", "PS256", "", None, 7, ["ES256"]], ids=repr
)
def test_algorithms_outside_the_closed_list_are_refused(algorithm: Any) -> None:
    assert refusal_of(flat(header(alg=algorithm))).code is Code.BAD_SIGNATURE_ALGORITHM


def test_an_hmac_keyed_with_the_public_key_is_refused() -> None:
    secret = jwcrypto_jwk.JWK(kty="oct", k=b64url_encode(json.dumps(EC_KEY.export_public(as_dict=True)).encode()))
    assert refusal_of(signed(secret, alg="HS256")).code is Code.BAD_SIGNATURE_ALGORITHM


def test_a_key_does_not_verify_under_the_algorithm_of_another_kind() -> None:
    message = parse_jws(signed(jwcrypto_jwk.JWK.generate(kty="RSA", size=2048), alg="RS256"))
    with pytest.raises(SporkError) as caught:
        message.verify(parse_jwk(EC_KEY.export_public(as_dict=True)))
    assert caught.value.code is Code.BAD_SIGNATURE_ALGORITHM


JWK = EC_KEY.export_public(as_dict=True)
MALFORMED = {
    "both jwk and kid": flat(header(jwk=JWK)),
    "neither jwk nor kid": flat({"alg": "ES256", "nonce": "AAAA", "url": "https://ca/x"}),
    "a kid that is a number": flat(header(kid=7)),
    "a jwk that is a text": flat({"alg": "ES256", "jwk": "x", "nonce": "AAAA", "url": "https://ca/x"}),
    "no url": flat({"alg": "ES256", "kid": "k", "nonce": "AAAA"}),
    "a url that is a list": flat(header(url=["https://ca/x"])),
    "a nonce that is a number": flat(header(nonce=1)),
    "crit": flat(header(crit=["exp"], exp=1)),
    "an empty crit": flat(header(crit=[])),
    "b64": flat(header(b64=False)),
    "an unprotected header": flat(header(), header={}),
    "general serialization": json.dumps(
        {"payload": "e30", "signatures": [{"protected": "e30", "signature": "eA"}]}
    ).encode(),
    "a doubled member outside": b'{"payload":"e30","payload":"e30","protected":"e30","signature":"eA"}',
    "a doubled member in the header": flat(b'{"alg":"ES256","alg":"none","kid":"k","nonce":"AAAA","url":"u"}'),
    "padding in the payload": flat(header(), payload=b"").replace(b'"payload": ""', b'"payload": "YQ=="'),
    "a line break in the payload": flat(header(), payload=b"").replace(b'"payload": ""', b'"payload": "YWFh\\nYWFh"'),
    "the other base64 alphabet": flat(header(), payload=b"").replace(b'"payload": ""', b'"payload": "+/+/"'),
    "stray bits in the payload": flat(header(), payload=b"").replace(b'"payload": ""', b'"payload": "YR"'),
    "a payload that is an object": flat(header(), payload=b"").replace(b'"payload": ""', b'"payload": {}'),
    "no signature": b'{"payload":"e30","protected":"e30"}',
    "a list": b"[]",
    "a number": b"7",
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"payload":"\xff"}',
    "NaN": b'{"payload":NaN}',
    "a very long number": b'{"payload":' + b"9" * 5000 + b"}",
    "a bomb of lists": b"[" * 60000,
    "a bomb of objects": b'{"a":' * 10000,
    "a bomb of lists in the header": flat(b'{"alg":' + b"[" * 10000),
    "a header that is a list": flat(b"[]"),
    "a lone surrogate": flat(b'{"alg":"ES256","kid":"\\ud800","nonce":"AAAA","url":"u"}'),
    "a NUL": flat(b'{"alg":"ES256","kid":"a\\u0000b","nonce":"AAAA","url":"u"}'),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_messages_are_refused_as_such(body: bytes) -> None:
    assert refusal_of(body).code is Code.MALFORMED


def test_oversized_messages_are_refused_before_parsing() -> None:
    assert refusal_of(b"[" * (MAX_JWS_OCTETS + 1)).code is Code.TOO_LARGE


def test_an_oversized_header_is_refused() -> None:
    assert refusal_of(flat(header(extra="x" * 20000))).code is Code.TOO_LARGE


def test_unknown_header_members_are_ignored_as_rfc_7515_demands() -> None:
    assert parse_jws(flat(header(typ="x"), note="ignored")).url == "https://ca/x"


def test_an_empty_payload_stays_empty() -> None:
    assert parse_jws(flat(header(), payload=b"")).payload == b""


def test_the_inner_message_of_a_key_change_must_carry_a_jwk_and_no_nonce() -> None:
    good = {"alg": "ES256", "jwk": JWK, "url": "https://ca/x"}
    assert parse_inner_jws(json.loads(flat(good))).nonce is None
    for bad in (good | {"nonce": "AAAA"}, header()):
        with pytest.raises(SporkError) as caught:
            parse_inner_jws(json.loads(flat(bad)))
        assert caught.value.code is Code.MALFORMED


RSA_JWK = jwcrypto_jwk.JWK.generate(kty="RSA", size=2048).export_public(as_dict=True)


def _padded(text: str, octets: int = 1) -> str:
    return b64url_encode(bytes(octets) + b64url_decode(text))


BAD_KEYS = {
    "a private EC key": EC_KEY.export_private(as_dict=True),
    "a symmetric key": {"kty": "oct", "k": "AAAA"},
    "no kty": {},
    "a kty that is a list": {"kty": ["EC"]},
    "an unknown curve": JWK | {"crv": "secp256k1"},
    "a curve that is a list": JWK | {"crv": ["P-256"]},
    "a point off the curve": JWK | {"y": JWK["x"]},
    "a point of zeros": JWK | {"x": b64url_encode(bytes(32)), "y": b64url_encode(bytes(32))},
    "a coordinate too long": JWK | {"x": _padded(JWK["x"])},
    "a coordinate too short": JWK | {"x": b64url_encode(b64url_decode(JWK["x"])[:31])},
    "a coordinate of another curve": JWK | {"crv": "P-384"},
    "a missing coordinate": {k: v for k, v in JWK.items() if k != "y"},
    "a padded coordinate": JWK | {"x": JWK["x"] + "="},
    "an alg that contradicts the key": JWK | {"alg": "ES384"},
    "RSA of 1024 bits": {"kty": "RSA", "e": "AQAB", "n": b64url_encode((1 << 1023 | 1).to_bytes(128, "big"))},
    "RSA of 16384 bits": {"kty": "RSA", "e": "AQAB", "n": b64url_encode((1 << 16383 | 1).to_bytes(2048, "big"))},
    "RSA with e=1": RSA_JWK | {"e": "AQ"},
    "RSA with e=3": RSA_JWK | {"e": "Aw"},
    "RSA with an even exponent": RSA_JWK | {"e": b64url_encode((65538).to_bytes(3, "big"))},
    "RSA with a huge exponent": RSA_JWK | {"e": b64url_encode((1 << 64 | 1).to_bytes(9, "big"))},
    "RSA with an even modulus": {"kty": "RSA", "e": "AQAB", "n": b64url_encode((1 << 2047).to_bytes(256, "big"))},
    "RSA with leading zeros": RSA_JWK | {"n": _padded(RSA_JWK["n"])},
    "RSA without a modulus": {"kty": "RSA", "e": "AQAB", "n": ""},
    "Ed448": {"kty": "OKP", "crv": "Ed448", "x": b64url_encode(bytes(57))},
    "X25519": {"kty": "OKP", "crv": "X25519", "x": b64url_encode(bytes(32))},
    "Ed25519 too short": {"kty": "OKP", "crv": "Ed25519", "x": b64url_encode(bytes(31))},
    "ML-DSA without alg": {"kty": "AKP", "pub": b64url_encode(bytes(1312))},
    "ML-DSA of the wrong size": {"kty": "AKP", "alg": "ML-DSA-65", "pub": b64url_encode(bytes(1312))},
    "ML-DSA with its seed": {"kty": "AKP", "alg": "ML-DSA-44", "pub": b64url_encode(bytes(1312)), "priv": "AAAA"},
}  # fmt: skip


@pytest.mark.parametrize("jwk", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_bad_keys_are_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(SporkError) as caught:
        parse_jwk(jwk)
    assert caught.value.code is Code.BAD_PUBLIC_KEY


@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"x" * 65, bytes(64), b"\xff" * 64])
def test_ecdsa_signatures_of_odd_shape_do_not_verify(signature: bytes) -> None:
    with pytest.raises(SporkError) as caught:
        parse_jws(flat(header(), signature=signature)).verify(parse_jwk(JWK))
    assert caught.value.code is Code.BAD_SIGNATURE


def test_a_der_encoded_ecdsa_signature_does_not_verify() -> None:
    body = json.loads(signed(EC_KEY))
    raw = b64url_decode(body["signature"])
    body["signature"] = b64url_encode(b"\x30\x44\x02\x20" + raw[:32] + b"\x02\x20" + raw[32:])
    with pytest.raises(SporkError):
        parse_jws(json.dumps(body).encode()).verify(parse_jwk(JWK))


@given(st.binary(max_size=300))
def test_base64url_comes_back_as_it_went(data: bytes) -> None:
    text = b64url_encode(data)
    assert b64url_decode(text) == data
    assert text == base64.urlsafe_b64encode(data).decode().rstrip("=")


@given(st.text(max_size=40))
def test_every_accepted_base64url_text_is_canonical(text: str) -> None:
    try:
        data = b64url_decode(text)
    except ValueError:
        return
    assert b64url_encode(data) == text


@given(st.binary(max_size=400))
def test_no_octets_end_the_parser(body: bytes) -> None:
    with pytest.raises(SporkError):
        parse_jws(body)


def _outcome(function: Callable[[Any], Any], argument: Any) -> Code | None:
    try:
        function(argument)
    except SporkError as error:
        return error.code
    return None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["alg", "jwk", "kid", "nonce", "url", "crit"]), _json | st.sampled_from(ALGORITHMS))
)
def test_any_header_is_read_or_refused(members: dict[str, Any]) -> None:
    try:
        message = parse_jws(flat(members))
    except SporkError:
        return
    assert (message.jwk is None) != (message.kid is None)


@given(st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "pub"]),
                       _json | st.sampled_from(["EC", "RSA", "OKP", "AKP", "P-256", "Ed25519", "AQAB", "ML-DSA-44"])))  # fmt: skip
def test_any_jwk_is_read_or_refused(jwk: dict[str, Any]) -> None:
    assert _outcome(parse_jwk, jwk) in (None, Code.BAD_PUBLIC_KEY)


@given(_json)
def test_strict_object_reads_what_json_writes(value: Any) -> None:
    outcome = _outcome(lambda octets: strict_object(octets, "It"), json.dumps(value).encode())
    assert outcome in (None, Code.MALFORMED)
    assert isinstance(value, dict) or outcome is Code.MALFORMED
