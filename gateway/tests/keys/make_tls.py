#!/usr/bin/env python3
"""Makes the certificates of the tests of fetched key sets, with another implementation than the gateway's: an authority, a
server for `localhost` and 127.0.0.1 that it vouches for, the same for another name, and an authority that nobody knows.

Valid until 2100, since tests must not fail with the calendar; the keys protect nothing. Run it in this folder.
"""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BEGIN = datetime.datetime(2020, 1, 1)
END = datetime.datetime(2100, 1, 1)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, key, issuer, issuer_key, ca, names=(), end=END):
    builder = (
        x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(BEGIN).not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def write(file, *parts):
    with open(f"tls/{file}.pem", "wb") as out:
        out.write(b"".join(parts))


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def secret(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


AUTHORITY, STRANGER, SERVER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
OURS = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
OTHERS = [x509.DNSName("id.test")]
LONG_AGO = datetime.datetime(2021, 1, 1)

write("ca", pem(certificate("Test Authority", AUTHORITY, "Test Authority", AUTHORITY, True)))
write("stranger", pem(certificate("Stranger", STRANGER, "Stranger", STRANGER, True)))
for file, names, end in [("server", OURS, END), ("other_name", OTHERS, END), ("expired", OURS, LONG_AGO)]:
    write(file, pem(certificate("server", SERVER, "Test Authority", AUTHORITY, False, names, end)), secret(SERVER))
