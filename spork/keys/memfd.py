"""Hands a listener's key to Python's `ssl`, which only reads files, without any file: through memory that has a descriptor.

The key is in the kernel's memory for the length of one call. Such memory may be swapped out, as all of a process may; encrypt
swap, or switch it off, where that matters. On systems without memfd the call is refused: nothing falls back to a disk.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Sequence

from spork.errors import ConfigurationError
from spork.keys.software import SoftwareSigner, clear


def load_cert_chain(context: ssl.SSLContext, signer: SoftwareSigner, chain: Sequence[bytes]) -> None:
    """Loads a certificate (DER), what a server sends after it, and its key into a context.

    Raises SporkError: FORBIDDEN for a key that is not a listener's; CONFIGURATION where the system has no memfd.
    Raises ssl.SSLError if key and certificate do not fit.
    """
    secret = signer.listener_pkcs8()
    text = bytearray(b"".join(_pem(b"CERTIFICATE", der) for der in chain))
    text += _pem(b"PRIVATE KEY", secret)
    clear(secret)
    try:
        _load(context, text)
    finally:
        clear(text)


def _load(context: ssl.SSLContext, text: bytearray) -> None:
    if not hasattr(os, "memfd_create"):
        raise ConfigurationError(
            "This system has no memfd_create, so a listener's key cannot be loaded without a file."
        )
    descriptor = os.memfd_create("spork-listener", os.MFD_CLOEXEC)
    try:
        view = memoryview(text)
        while view:
            view = view[os.write(descriptor, view) :]
        # A process may read its own descriptors by name also when it is not dumpable.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.pwrite(descriptor, bytes(len(text)), 0)
        os.close(descriptor)


def _pem(label: bytes, der: bytes | bytearray) -> bytearray:
    encoded = base64.encodebytes(der)
    return bytearray(b"-----BEGIN " + label + b"-----\n" + encoded + b"-----END " + label + b"-----\n")
