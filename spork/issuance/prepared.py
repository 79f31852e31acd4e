"""The token between deciding and signing: a TBS that has been linted, and that can be signed once."""

from __future__ import annotations

from spork.errors import Code, SporkError
from spork.ids import Serial
from spork.x509.der import CertificateTBS


class Prepared:
    """A linted TBS. `redeem` gives it out once, to the signing step, and only after it was reserved.

    So there is no way to sign what was not linted, or to sign one serial twice.
    """

    __slots__ = ("_redeemed", "_reserved", "_tbs", "serial")

    def __init__(self, tbs: CertificateTBS, serial: Serial) -> None:
        self._tbs = tbs
        self.serial = serial
        self._reserved = False
        self._redeemed = False

    @property
    def tbs_der(self) -> bytes:
        """The octets, for the reservation; not a thing that a Signer takes."""
        return self._tbs.der

    def mark_reserved(self) -> None:
        """The record of this TBS is durable."""
        self._reserved = True

    def redeem(self) -> CertificateTBS:
        """The TBS to sign. Raises SporkError(INTERNAL) before the reservation, and the second time."""
        if not self._reserved or self._redeemed:
            raise SporkError(Code.INTERNAL, "A prepared certificate was to be signed before its reservation, or twice.")
        self._redeemed = True
        return self._tbs
