"""A certificate that signs itself, for servers of one machine that trust one another alone."""

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

LIFETIME = timedelta(days=3650)


def write_certificate(certificate: Path, key: Path, host: str = "127.0.0.1") -> None:
    """Write a new certificate and its private key, as PEM files that their owner alone reads."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "restmcts")])
    begin = datetime.now(UTC) - timedelta(minutes=5)
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number(), begin, begin + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, content in ((certificate, signed.public_bytes(pem)), (key, secret)):
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
