"""The CA of somebody else that is to be cross-certified: its name and key, from its request or certificate."""

from __future__ import annotations

import pathlib

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spork.errors import SporkError
from spork.hierarchy.positions import Path
from spork.hierarchy.problems import Problems
from spork.hierarchy.spec import CrossSpec
from spork.x509.csr import csr_from_pem

_MAX_PEM_OCTETS = 256 * 1024


def foreign_subject(
    spec: CrossSpec, path: Path, problems: Problems, base: pathlib.Path | None
) -> tuple[x509.Name | None, bytes | None]:
    """The name and SubjectPublicKeyInfo that `subject_csr` or `subject_certificate` holds; (None, None) for a CA of the tree."""
    given = [key for key in ("subject", "subject_csr", "subject_certificate") if getattr(spec, key) is not None]
    if len(given) != 1:
        problems.add(
            (*path, given[1]) if given else path,
            "say whose certificate it is by exactly one of `subject`, `subject_csr` and `subject_certificate`.",
        )
        return None, None
    if given == ["subject"]:
        return None, None
    where = (*path, given[0])
    text = getattr(spec, given[0])
    # A resource of Kubernetes holds the PEM text itself, because there is no folder that it could name a file of.
    inline = text.startswith("-----BEGIN ")
    if base is None and not inline:
        problems.add(where, "a file cannot be named here; give the PEM text itself, or use `subject`.")
        return None, None
    what = "the PEM text" if inline else repr(text)
    try:
        pem = text if inline or base is None else _read(base / text)
        return _of_csr(pem) if given == ["subject_csr"] else _of_certificate(pem)
    except SporkError as error:
        problems.add(where, error.detail)
    except OSError as error:
        problems.add(where, f"{what} cannot be read: {error.strerror}.")
    except ValueError as error:
        problems.add(where, f"{what} cannot be used: {error}.")
    return None, None


def _read(file: pathlib.Path) -> str:
    with file.open("rb") as stream:
        content = stream.read(_MAX_PEM_OCTETS + 1)
    if len(content) > _MAX_PEM_OCTETS:
        raise ValueError("the file is too large for one PEM object")
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        raise ValueError("it is not PEM text") from error


def _of_csr(pem: str) -> tuple[x509.Name, bytes]:
    request = csr_from_pem(pem)
    if not request.subject.rdns:
        raise ValueError("its subject is empty, and a CA needs a name")
    return request.subject, request.spki


def _of_certificate(pem: str) -> tuple[x509.Name, bytes]:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise ValueError("it holds no PEM certificate of a CA with a known kind of key") from error
    if not is_ca:
        raise ValueError("its certificate is not one of a CA")
    return certificate.subject, spki
