//! Keys that tokens are verified with, as files hold them: PEM, JSON Web Key Sets (RFC 7517), shared secrets. What is here
//! has the right form and size; whether it makes a key shows when it verifies.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::jwt::JwtKeys;
use super::load::read_bounded;
use super::resolved::JwtAlgorithm as Algorithm;

/// Most keys of a set.
const KEYS_MAX: usize = 256;
/// Largest file or answer with keys in bytes.
pub const KEY_SET_BYTES_MAX: u64 = 1 << 20;
/// Shorter moduli can be factored (NIST SP 800-131A); longer ones cost too much.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The keys of an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    /// In the order of the file; at most 256. None only where they are fetched and could not be yet.
    pub keys: Vec<VerifyKey>,
}

/// A key of an issuer.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyKey {
    /// The name that tokens may call it by.
    pub id: Option<String>,
    /// The one algorithm that it is for; `None`: all that it can serve.
    pub only: Option<Algorithm>,
    /// The key itself.
    pub material: Material,
}

/// A key, by what it can verify.
#[derive(Clone, PartialEq, Eq)]
pub enum Material {
    /// Modulus and exponent, without leading zeros.
    Rsa {
        /// 2048 to 8192 bits.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
    /// 32 bytes.
    Ed25519(Vec<u8>),
    /// A secret that both sides know.
    Secret(Vec<u8>),
}

impl Material {
    /// Whether a signature by `algorithm` may be one of this key: what keeps a public key from being taken for a secret.
    #[must_use]
    pub const fn serves(&self, algorithm: Algorithm) -> bool {
        use Algorithm as A;
        match self {
            Self::Rsa { .. } => matches!(
                algorithm,
                A::Rs256 | A::Rs384 | A::Rs512 | A::Ps256 | A::Ps384 | A::Ps512
            ),
            Self::P256(_) => matches!(algorithm, A::Es256),
            Self::P384(_) => matches!(algorithm, A::Es384),
            Self::Ed25519(_) => matches!(algorithm, A::EdDsa),
            Self::Secret(_) => matches!(algorithm, A::Hs256 | A::Hs384 | A::Hs512),
        }
    }
}

impl VerifyKey {
    /// Whether it may verify a signature by `algorithm`.
    #[must_use]
    pub fn serves(&self, algorithm: Algorithm) -> bool {
        self.only.is_none_or(|only| only == algorithm) && self.material.serves(algorithm)
    }
}

/// Reads a file of keys; waits for the disk.
///
/// # Errors
///
/// What is wrong, in words, with the file's name. No message shows a key.
pub fn read(keys: &JwtKeys) -> Result<KeySet, String> {
    let shown = |path: &Path, problem: String| format!("{}: {problem}", path.display());
    let path = keys.path().ok_or("the keys are in no file")?;
    let bytes = read_bounded(path, KEY_SET_BYTES_MAX)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let set = match keys {
        JwtKeys::Set(_) | JwtKeys::Url(_) => KeySet::from_jwks(&bytes),
        JwtKeys::Pem(_) => KeySet::from_pem(&String::from_utf8_lossy(&bytes)),
        JwtKeys::Secret(_) => Ok(KeySet::from_secret(&bytes)),
    };
    set.map_err(|problem| shown(path, problem))
}

impl KeySet {
    /// The keys of a PEM text: blocks of `PUBLIC KEY`.
    fn from_pem(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("-----BEGIN ") {
            let (label, after) = after
                .split_once("-----")
                .ok_or("a BEGIN line without its end")?;
            let end = format!("-----END {label}-----");
            let (body, after) = after.split_once(&end).ok_or_else(|| format!("no {end}"))?;
            rest = after;
            if label != "PUBLIC KEY" {
                return Err(format!(
                    "a {label} is no PUBLIC KEY; `openssl pkey -pubout` makes one of a private key"
                ));
            }
            let base64: String = body.split_ascii_whitespace().collect();
            let der = STANDARD
                .decode(base64)
                .map_err(|_| "a PUBLIC KEY is not base64")?;
            keys.push(VerifyKey {
                id: None,
                only: None,
                material: subject_public_key(&der)?,
            });
        }
        Self::of(keys)
    }

    /// The keys of a JSON Web Key Set; those that verify no signature we know are left out.
    fn from_jwks(text: &[u8]) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_slice(text)
            .map_err(|error| format!("no JSON Web Key Set: {error}"))?;
        let mut keys = Vec::new();
        for jwk in set.keys {
            keys.extend(jwk.read()?);
        }
        Self::of(keys)
    }

    /// The keys of a set that somebody else keeps, and how many of it are none that verify signatures here. One that is broken
    /// is left out as those of unknown kinds are (RFC 7517, section 5): the others have to go on.
    ///
    /// # Errors
    ///
    /// It is no set, or holds no key or too many. No message shows what it holds.
    pub fn from_answer(text: &[u8]) -> Result<(Self, usize), String> {
        // The parser's own words repeat what it has read.
        let set: Lenient = serde_json::from_slice(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("no JSON Web Key Set (line {line}, column {column})")
        })?;
        let found = set.keys.len();
        if found > KEYS_MAX {
            return Err(format!("at most {KEYS_MAX} keys; found {found}"));
        }
        let read = |key| {
            let jwk: Option<Jwk> = serde_json::from_value(key).ok();
            jwk.and_then(|jwk| jwk.read().ok().flatten())
        };
        let keys: Vec<_> = set.keys.into_iter().filter_map(read).collect();
        let left_out = found - keys.len();
        Ok((Self::of(keys)?, left_out))
    }

    /// A shared secret, for HMAC; a line end after it is an editor's.
    fn from_secret(file: &[u8]) -> Self {
        let line = file.strip_suffix(b"\n").unwrap_or(file);
        let secret = line.strip_suffix(b"\r").unwrap_or(line);
        let key = VerifyKey {
            id: None,
            only: None,
            material: Material::Secret(secret.to_vec()),
        };
        Self { keys: vec![key] }
    }

    fn of(keys: Vec<VerifyKey>) -> Result<Self, String> {
        match keys.len() {
            0 => Err("it holds no key that verifies signatures".into()),
            1..=KEYS_MAX => Ok(Self { keys }),
            found => Err(format!("at most {KEYS_MAX} keys; found {found}")),
        }
    }

    /// Whether it is good for tokens signed by one of `algorithms`: without such a key it would verify none, and so is not worth
    /// the place of one that does.
    ///
    /// # Errors
    ///
    /// No key serves any of them, or a shared secret is too short for one of them (RFC 7518, 3.2).
    pub fn check_fit(&self, algorithms: &[Algorithm]) -> Result<(), String> {
        let serves = |key: &VerifyKey| algorithms.iter().any(|each| key.serves(*each));
        if !self.keys.iter().any(serves) {
            let names: Vec<_> = algorithms.iter().map(|each| each.name()).collect();
            return Err(format!("it holds no key for {}", names.join(", ")));
        }
        let longest = algorithms
            .iter()
            .max_by_key(|algorithm| algorithm.secret_bytes_min());
        match (self.secret_bytes(), longest) {
            (Some(found), Some(algorithm)) if found < algorithm.secret_bytes_min() => Err(format!(
                "{} needs a secret of {} bytes or more; the file holds {found}",
                algorithm.name(),
                algorithm.secret_bytes_min()
            )),
            _ => Ok(()),
        }
    }

    /// The length of the shared secret, if it is one.
    fn secret_bytes(&self) -> Option<usize> {
        match self.keys.first().map(|key| &key.material) {
            Some(Material::Secret(secret)) => Some(secret.len()),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Material {
    /// Its kind: one of them is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rsa { .. } => "Rsa",
            Self::P256(_) => "P256",
            Self::P384(_) => "P384",
            Self::Ed25519(_) => "Ed25519",
            Self::Secret(_) => "Secret",
        })
    }
}

impl std::fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// A set of which not every key has to be one.
#[derive(Deserialize)]
struct Lenient {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    /// `Ok(None)`: a key for something else.
    fn read(self) -> Result<Option<VerifyKey>, String> {
        let verifies = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let only = match self.alg.as_deref() {
            None => None,
            Some(name) => match Algorithm::from_name(name) {
                Some(algorithm) => Some(algorithm),
                None => return Ok(None),
            },
        };
        let material = match (&*self.kty, self.crv.as_deref()) {
            _ if !verifies => return Ok(None),
            ("RSA", _) => rsa(part(&self.n, "n")?, part(&self.e, "e")?)?,
            ("EC", Some("P-256")) => Material::P256(point(&self.x, &self.y, 32)?),
            ("EC", Some("P-384")) => Material::P384(point(&self.x, &self.y, 48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(sized(part(&self.x, "x")?, 32)?),
            // A secret in a set of public keys is none, and other curves are not known here.
            _ => return Ok(None),
        };
        // For an algorithm that its kind of key cannot serve: it would verify nothing.
        if only.is_some_and(|only| !material.serves(only)) {
            return Ok(None);
        }
        Ok(Some(VerifyKey {
            id: self.kid,
            only,
            material,
        }))
    }
}

fn part(text: &Option<String>, name: &str) -> Result<Vec<u8>, String> {
    let text = text
        .as_ref()
        .ok_or_else(|| format!("a key lacks `{name}`"))?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| format!("`{name}` of a key is not base64url"))
}

fn sized(bytes: Vec<u8>, size: usize) -> Result<Vec<u8>, String> {
    if bytes.len() == size {
        Ok(bytes)
    } else {
        Err("a key of the wrong size".into())
    }
}

/// An uncompressed point (SEC 1, section 2.3.3).
fn point(x: &Option<String>, y: &Option<String>, size: usize) -> Result<Vec<u8>, String> {
    let mut point = vec![4];
    point.extend(sized(part(x, "x")?, size)?);
    point.extend(sized(part(y, "y")?, size)?);
    Ok(point)
}

fn rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Material, String> {
    let bare =
        |bytes: Vec<u8>| -> Vec<u8> { bytes.into_iter().skip_while(|byte| *byte == 0).collect() };
    let (n, e) = (bare(n), bare(e));
    if !MODULUS_BYTES.contains(&n.len()) {
        return Err(format!(
            "an RSA key of {} bits; 2048 to 8192 are taken",
            n.len() * 8
        ));
    }
    Ok(Material::Rsa { n, e })
}

/// Reads a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
fn subject_public_key(der: &[u8]) -> Result<Material, String> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    const P384: &[u8] = &[0x2b, 0x81, 4, 0, 34];
    const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    let broken = || "a PUBLIC KEY is not what RFC 5280 says".to_owned();
    let mut outer = Der(der).inside(0x30).ok_or_else(broken)?;
    let mut algorithm = outer.inside(0x30).ok_or_else(broken)?;
    let kind = algorithm.take(0x06).ok_or_else(broken)?;
    let curve = algorithm.take(0x06);
    let key = outer
        .take(0x03)
        .and_then(|bits| bits.strip_prefix(&[0]))
        .ok_or_else(broken)?;
    match (kind, curve) {
        (RSA, _) => {
            let mut inner = Der(key).inside(0x30).ok_or_else(broken)?;
            let n = inner.take(0x02).ok_or_else(broken)?.to_vec();
            let e = inner.take(0x02).ok_or_else(broken)?.to_vec();
            rsa(n, e)
        }
        (EC, Some(P256)) if key.first() == Some(&4) => sized(key.to_vec(), 65).map(Material::P256),
        (EC, Some(P384)) if key.first() == Some(&4) => sized(key.to_vec(), 97).map(Material::P384),
        (ED25519, _) => sized(key.to_vec(), 32).map(Material::Ed25519),
        _ => Err(
            "a PUBLIC KEY of a kind that is not taken; RSA, P-256, P-384 and Ed25519 are".into(),
        ),
    }
}

/// What is left of a DER encoding.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&short, mut rest) = rest.split_first()?;
        let mut length = usize::from(short);
        if short & 0x80 != 0 {
            let count = usize::from(short & 0x7f);
            if !(1..=3).contains(&count) {
                return None;
            }
            let (digits, after) = rest.split_at_checked(count)?;
            length = digits
                .iter()
                .fold(0, |length, digit| length << 8 | usize::from(*digit));
            rest = after;
        }
        let (content, after) = rest.split_at_checked(length)?;
        if found != tag {
            return None;
        }
        self.0 = after;
        Some(content)
    }

    fn inside(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(Der)
    }
}
