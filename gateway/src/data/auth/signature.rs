//! Signatures of tokens. What a key is decides which algorithms it may serve; a token only chooses among them.

use ring::hmac;
use ring::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

use crate::config::{JwtAlgorithm as Algorithm, KeySet, Material, VerifyKey};

/// Keys of a set that one token is tried with.
const TRIES_MAX: usize = 4;

/// Why no key verifies a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The set has none for this algorithm and name.
    Unknown,
    /// Those that it has did not make the signature.
    Signature,
}

/// Whether a key of `set` made `signature` over `message` with `algorithm`. One with another name than `id` is not tried.
pub(super) fn verify(
    set: &KeySet,
    algorithm: Algorithm,
    id: Option<&str>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), NoKey> {
    let fits = |key: &&VerifyKey| {
        key.serves(algorithm) && (id.is_none() || key.id.is_none() || key.id.as_deref() == id)
    };
    let mut result = Err(NoKey::Unknown);
    for key in set.keys.iter().filter(fits).take(TRIES_MAX) {
        if is_made_by(&key.material, algorithm, message, signature) {
            return Ok(());
        }
        result = Err(NoKey::Signature);
    }
    result
}

fn is_made_by(material: &Material, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
    let public = |how: &'static dyn VerificationAlgorithm, key: &[u8]| {
        let key = UnparsedPublicKey::new(how, key);
        key.verify(message, signature).is_ok()
    };
    match material {
        Material::Rsa { n, e } => rsa_parameters(algorithm).is_some_and(|how| {
            let key = RsaPublicKeyComponents { n, e };
            key.verify(how, message, signature).is_ok()
        }),
        Material::P256(point) => public(&signature::ECDSA_P256_SHA256_FIXED, point),
        Material::P384(point) => public(&signature::ECDSA_P384_SHA384_FIXED, point),
        Material::Ed25519(point) => public(&signature::ED25519, point),
        Material::Secret(secret) => {
            let hash = match algorithm {
                Algorithm::Hs256 => hmac::HMAC_SHA256,
                Algorithm::Hs384 => hmac::HMAC_SHA384,
                Algorithm::Hs512 => hmac::HMAC_SHA512,
                _ => return false,
            };
            // Compares in constant time.
            hmac::verify(&hmac::Key::new(hash, secret), message, signature).is_ok()
        }
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}
