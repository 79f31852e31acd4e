"""The tree as files: certificates and chains for servers and trust stores, requests for whoever signs elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spork.files import write_atomically
from spork.hierarchy.build import chain_of
from spork.hierarchy.ports import TreeState
from spork.hierarchy.snapshot import stored_certificate


def write_tree(state: TreeState, folder: Path) -> list[Path]:
    """Writes `<id>.pem`, `<id>-chain.pem` (without the root), `root.pem` and `requests/<id>.csr`; returns the paths.

    Each file is whole or not there. Raises OSError.
    """
    files: dict[Path, str] = {}
    for authority in state.authorities.values():
        certificate = stored_certificate(authority)
        if authority.current is not None and authority.current.pending_csr is not None:
            files[folder / "requests" / f"{authority.id}.csr"] = csr_pem(authority.current.pending_csr)
        if certificate is None or authority.disabled:
            continue
        files[folder / f"{authority.id}.pem"] = pem([certificate])
        if authority.parent_id is None:
            files[folder / "root.pem"] = pem([certificate])
        else:
            files[folder / f"{authority.id}-chain.pem"] = pem(chain_of(state, authority.id))
    for cross in state.cross_certificates:
        files[folder / f"{cross.id}.pem"] = pem([x509.load_der_x509_certificate(cross.certificate_der)])
    for path, text in files.items():
        write_atomically(path, text.encode("ascii"))
    return list(files)


def pem(certificates: Sequence[x509.Certificate]) -> str:
    """The certificates one after the other, PEM."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in certificates)


def csr_pem(der: bytes) -> str:
    """A certification request as PEM, in lines of 64 characters (RFC 7468)."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE REQUEST-----", *lines, "-----END CERTIFICATE REQUEST-----", ""])
