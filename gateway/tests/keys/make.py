#!/usr/bin/env python3
"""Makes the keys and tokens of the tests of tokens, with another implementation (pyca/cryptography) than the gateway's.

The private keys are thrown away: what is signed is signed. Run it in this folder; every file is made anew.
"""

import base64
import hashlib
import hmac
import json

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

SECRET = hashlib.sha256(b"secret of the tests").hexdigest().encode()
LATE, PAST = 4102444800, 1700000000
GOOD = {
    "iss": "https://id.test/", "aud": "https://api.test", "sub": "alice", "exp": LATE, "iat": PAST,
    "groups": ["apps", "beta"], "plan": "gold", "tenant": "one",
}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value, size=None):
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
SMALL = rsa.generate_private_key(65537, 1024)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def sign(alg, message, rsa_key=RSA, secret=SECRET):
    kind, bits = alg[:2], alg[2:]
    digest = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}.get(bits, lambda: None)()
    if kind == "HS":
        return hmac.new(secret, message, getattr(hashlib, "sha" + bits)).digest()
    if kind == "RS":
        return rsa_key.sign(message, padding.PKCS1v15(), digest)
    if kind == "PS":
        return rsa_key.sign(message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    if alg == "EdDSA":
        return ED.sign(message)
    key, size = (P256, 32) if bits == "256" else (P384, 48)
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def token(alg="ES256", header=None, signature=None, without=(), more=None, **keys):
    head = {"alg": alg, "typ": "JWT", **(header or {})}
    claims = {name: value for name, value in {**GOOD, **(more or {})}.items() if name not in without}
    message = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
    made = signature if signature is not None else sign(alg, message.encode(), **keys)
    return f"{message}.{b64(made)}"


def rsa_jwk(key, **more):
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **more}


def ec_jwk(key, curve, size, **more):
    numbers = key.public_key().public_numbers()
    return {"kty": "EC", "crv": curve, "x": number(numbers.x, size), "y": number(numbers.y, size), **more}


raw = ED.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
jwks = {"keys": [
    rsa_jwk(RSA, kid="rsa", use="sig"),
    ec_jwk(P256, "P-256", 32, kid="p256", alg="ES256"),
    ec_jwk(P384, "P-384", 48, kid="p384"),
    {"kty": "OKP", "crv": "Ed25519", "x": b64(raw), "kid": "ed"},
    # None of these may verify anything.
    rsa_jwk(OTHER, kid="enc", use="enc"),
    ec_jwk(P521, "P-521", 66, kid="p521"),
    {"kty": "oct", "k": b64(SECRET), "kid": "oct"},
]}

public = pem(RSA).encode()
der = RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
der_signature = P256.sign(b"x", ec.ECDSA(hashes.SHA256()))
tokens = {alg: token(alg) for alg in
          ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512"]}
tokens |= {
    "audience_list": token(more={"aud": ["https://x.test", "https://api.test"]}),
    "fraction": token(more={"exp": LATE + 0.5}),
    "scope": token(more={"scope": "read write"}),
    "tenant_two": token(more={"tenant": "two"}),
    "number_tenant": token(more={"tenant": 7}),
    "bob": token(more={"sub": "bob"}, without=["groups", "plan"]),
    "named": token(header={"kid": "p256"}),
    "expired": token(more={"exp": PAST}),
    "early": token(more={"nbf": LATE - 1}),
    "never_ends": token(without=["exp"]),
    "text_exp": token(more={"exp": str(LATE)}),
    "other_issuer": token(more={"iss": "https://id.test"}),
    "no_issuer": token(without=["iss"]),
    "other_audience": token(more={"aud": "https://api.test.evil"}),
    "no_audience": token(without=["aud"]),
    "no_tenant": token(without=["tenant"]),
    "no_subject": token(without=["sub"]),
    "split_subject": token(more={"sub": "alice\r\nX-Consumer-Groups: admin"}),
    "two_groups_in_one": token(more={"groups": ["apps,admin"]}),
    "none": token("none", signature=b""),
    "None": token("None", signature=b""),
    "none_signed": token("none", signature=b"x" * 64),
    "confused_pem": token("HS256", secret=public),
    "confused_pem_bare": token("HS256", secret=public.strip()),
    "confused_der": token("HS256", secret=der),
    "other_key": token("RS256", rsa_key=OTHER),
    "own_key": token("RS256", header={"jwk": rsa_jwk(OTHER)}, rsa_key=OTHER),
    "key_elsewhere": token("RS256", header={"jku": "https://evil.test/jwks.json", "kid": "rsa"}, rsa_key=OTHER),
    "unknown_name": token(header={"kid": "nobody"}),
    "name_of_another": token(header={"kid": "p384"}),
    "name_of_a_path": token("HS256", header={"kid": "../../dev/null"}, secret=b""),
    "critical": token(header={"crit": ["exp"]}),
    "wrong_family": token("ES384", signature=sign("ES256", b"x")),
    "psychic": token(signature=bytes(64)),
    "der_signature": token(signature=der_signature),
    "empty_signature": token(signature=b""),
}

with open("tokens.txt", "w") as out:
    out.write("# Made by make.py.\n")
    out.writelines(f"{name} {value}\n" for name, value in tokens.items())
for name, key in {"rsa": RSA, "p256": P256, "p384": P384, "p521": P521, "ed25519": ED, "small": SMALL}.items():
    with open(f"{name}.pem", "w") as out:
        out.write(pem(key))
with open("all.pem", "w") as out:
    out.write("".join(pem(key) for key in [RSA, P256, P384, ED]))
with open("jwks.json", "w") as out:
    json.dump(jwks, out, indent=1)
    out.write("\n")
with open("secret", "w") as out:
    out.write(SECRET.decode() + "\n")
