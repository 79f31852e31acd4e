"""A CA on another machine: its key never comes here, and its certificates are made with another library's builder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

_ANY_POLICY = x509.ObjectIdentifier("2.5.29.32.0")
_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class OfflineCA:
    """A self-signed root for twenty years, which signs whatever CA's request it is given for five."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
        self.certificate_pem = self._certificate(self._name, self._key.public_key(), years=20, path_length=None)

    def signed(self, request_pem: str) -> str:
        """The certificate of an issuing CA, PEM."""
        request = x509.load_pem_x509_csr(request_pem.encode())
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return self._certificate(request.subject, key, years=5, path_length=0)

    def request_pem(self) -> str:
        """A request for its own key, for a CA that is to be signed here."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(self._name)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, years: int, path_length: int | None
    ) -> str:
        end = self._start.replace(year=self._start.year + years) - timedelta(seconds=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .add_extension(_USAGE, critical=True)
            .add_extension(x509.CertificatePolicies([x509.PolicyInformation(_ANY_POLICY, None)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
