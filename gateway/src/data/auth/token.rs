//! Tokens: JSON Web Signatures in compact form (RFC 7515) whose payload are claims (RFC 7519). No I/O, no clock.
//!
//! Nothing in a token is believed before its signature is verified, and its header only chooses among the algorithms that
//! the configuration and the key allow: there is no `none`, and a public key is never a secret (RFC 8725, section 3).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Identity;
use super::signature::{self, NoKey};
use crate::config::{ConsumerConfig, JwtAlgorithm as Algorithm, JwtConfig, KeySet};

/// Longest token that is looked at, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Most groups that are taken from a claim, and the longest text of a claim in bytes.
const GROUPS_MAX: usize = 64;
const CLAIM_BYTES_MAX: usize = 256;

/// What a token that was verified says.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) identity: Identity,
    /// From this second of Unix time on it is not valid any more; the skew is in it.
    pub(super) until: u64,
}

/// The protected header. Fields that name keys (`jwk`, `jku`, `x5u`, `x5c`) are never looked at: keys come from the
/// configuration alone.
#[derive(Deserialize)]
struct Header<'a> {
    alg: std::borrow::Cow<'a, str>,
    kid: Option<std::borrow::Cow<'a, str>>,
    crit: Option<Value>,
}

/// Why a token tells nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A stable identifier of what is wrong.
    Reason(&'static str),
    /// No key of the set fits it; everything else would be right, so that it may have been made with a newer key.
    NewKey,
}

/// What a token is refused for whose key is not in the set.
pub(super) const KEY_UNKNOWN: &str = "token_key_unknown";

impl From<&'static str> for Refusal {
    fn from(reason: &'static str) -> Self {
        Self::Reason(reason)
    }
}

/// Verifies a token at `now`, in seconds of Unix time.
///
/// # Errors
///
/// What is wrong. Costs one verification of a signature, or up to four where several keys of a set
/// may have made it, and a few allocations.
pub(super) fn verify(
    token: &[u8],
    config: &JwtConfig,
    keys: &KeySet,
    consumers: &[ConsumerConfig],
    now: u64,
) -> Result<Verified, Refusal> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err("token_too_long".into());
    }
    let (claims, is_signed) = verify_signature(token, &config.algorithms, |made| {
        signature::verify(keys, made.algorithm, made.id, made.message, made.signature)
    })?;
    if !is_signed {
        // Of an issuer that is not ours, or late: no key would change that, so nobody is asked for one.
        let plausible = claims.is_some_and(|it| check_claims(&it, config, now).is_ok());
        let unknown = Refusal::Reason(KEY_UNKNOWN);
        return Err(if plausible { Refusal::NewKey } else { unknown });
    }
    let claims = claims.ok_or(MALFORMED)?;
    let until = check_claims(&claims, config, now)?;
    Ok(Verified {
        identity: identity(&claims, config, consumers)?,
        until,
    })
}

/// Whose a token would be if a key of its issuer's made it: for who explains what would be done, never for who serves.
///
/// # Errors
///
/// What is wrong with it whoever made it.
pub(super) fn suppose(
    token: &[u8],
    config: &JwtConfig,
    consumers: &[ConsumerConfig],
    now: u64,
) -> Result<Identity, &'static str> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err("token_too_long");
    }
    let (claims, _) = verify_signature(token, &config.algorithms, |_| Ok(()))?;
    let claims = claims.ok_or(MALFORMED)?;
    check_claims(&claims, config, now)?;
    identity(&claims, config, consumers)
}

/// A signature that has to be verified.
struct Made<'a> {
    algorithm: Algorithm,
    /// The name of the key.
    id: Option<&'a str>,
    message: &'a [u8],
    signature: &'a [u8],
}

type Claims = Map<String, Value>;

const MALFORMED: &str = "token_malformed";

/// The claims of a token, if they can be read, and whether its signature is right as `verify` says; not so if no key fits it.
fn verify_signature(
    token: &[u8],
    allowed: &[Algorithm],
    verify: impl FnOnce(&Made<'_>) -> Result<(), NoKey>,
) -> Result<(Option<Claims>, bool), &'static str> {
    let mut dots = token
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'.')
        .map(|(at, _)| at);
    let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
        return Err(MALFORMED);
    };
    let (message, signature) = (&token[..second], &token[second + 1..]);
    let header = URL_SAFE_NO_PAD
        .decode(&message[..first])
        .map_err(|_| MALFORMED)?;
    let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| MALFORMED)?;
    // RFC 7515, 4.1.11: who does not understand what is critical must refuse.
    if header.crit.is_some() {
        return Err("token_critical");
    }
    let algorithm = Algorithm::from_name(&header.alg).filter(|it| allowed.contains(it));
    let algorithm = algorithm.ok_or("token_algorithm")?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
    let made = verify(&Made {
        algorithm,
        id: header.kid.as_deref(),
        message,
        signature: &signature,
    });
    if made == Err(NoKey::Signature) {
        return Err("token_signature");
    }
    let claims = URL_SAFE_NO_PAD.decode(&message[first + 1..]);
    let claims = claims.ok().and_then(|it| serde_json::from_slice(&it).ok());
    Ok((claims, made.is_ok()))
}

/// Checks the registered claims (RFC 7519, section 4.1); the second from which on the token is not valid any more.
fn check_claims(claims: &Claims, config: &JwtConfig, now: u64) -> Result<u64, &'static str> {
    let skew = config.clock_skew.as_secs();
    // One that never ends could not be taken back.
    let expires = claims.get("exp").ok_or("token_claims")?;
    let until = seconds(expires).ok_or("token_claims")?.saturating_add(skew);
    if now >= until {
        return Err("token_expired");
    }
    if let Some(begins) = claims.get("nbf")
        && seconds(begins).ok_or("token_claims")? > now.saturating_add(skew)
    {
        return Err("token_not_yet_valid");
    }
    if let Some(issuer) = &config.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err("token_issuer");
    }
    if let Some(audiences) = &config.audience {
        let ours = |value: &Value| {
            value
                .as_str()
                .is_some_and(|it| audiences.iter().any(|a| a == it))
        };
        let meant = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(ours),
            Some(one) => ours(one),
            None => false,
        };
        if !meant {
            return Err("token_audience");
        }
    }
    let has = |name: &String| claims.get(name).is_some_and(|value| !value.is_null());
    if config.required_claims.iter().all(has) {
        Ok(until)
    } else {
        Err("token_claims")
    }
}

/// A NumericDate, which may have a fraction; a time before 1970 is long past.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as casts of floats saturate"
)]
fn seconds(value: &Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|seconds| seconds.floor() as u64))
}

/// Who the token speaks of.
fn identity(
    claims: &Claims,
    config: &JwtConfig,
    consumers: &[ConsumerConfig],
) -> Result<Identity, &'static str> {
    const UNFIT: &str = "token_consumer";
    let name = claims
        .get(&config.consumer_claim)
        .and_then(Value::as_str)
        .ok_or(UNFIT)?;
    let known = consumers.iter().find(|consumer| consumer.name == name);
    let mut groups: Vec<String> = known.map(|known| known.groups.clone()).unwrap_or_default();
    match claims.get(&config.groups_claim) {
        Some(Value::Array(all)) => {
            let texts = all.iter().take(GROUPS_MAX).filter_map(Value::as_str);
            groups.extend(texts.map(str::to_owned));
        }
        // A list between blanks, as of scopes (RFC 6749, 3.3).
        Some(Value::String(text)) => {
            let words = text.split_ascii_whitespace().take(GROUPS_MAX);
            groups.extend(words.map(str::to_owned));
        }
        _ => {}
    }
    let own_plan = config
        .plan_claim
        .as_ref()
        .and_then(|claim| claims.get(claim))
        .and_then(Value::as_str);
    let plan = own_plan.or_else(|| known.and_then(|known| known.plan.as_deref()));
    // All of these go into header fields of the upstream's and lines of the log.
    let texts = groups.iter().map(String::as_str).chain(plan).chain([name]);
    let fits = |text: &str| {
        (1..=CLAIM_BYTES_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b',')
    };
    if !texts.into_iter().all(fits) {
        return Err(UNFIT);
    }
    let mut identity = Identity::new(name, &groups, plan);
    for claim in &config.kept_claims {
        let text = match claims.get(claim) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => continue,
        };
        identity.claims.push((claim.as_str().into(), text.into()));
    }
    Ok(identity)
}
