//! `[jwt.NAME]`: callers that show a token of an issuer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::credentials::{FORWARD, Named};
use super::key::{Key, Keys, List, OneOrMore, Optional, Required};
use super::key_file;
use super::key_set::{self, KeySet};
use super::key_url::{self, KeyUrl};
use super::kind::{FILE, Integer, Or, Text, Time, Word};
use super::limit_key::token;
use super::resolved::{
    AuthenticatorConfig, AuthenticatorKind, CredentialPlace, FileState, JwtAlgorithm,
};
use super::section::{Located, Section};

/// Longest name of a claim, and longest issuer or audience, in bytes.
const CLAIM_BYTES_MAX: usize = 256;
const LIST_MAX: usize = 16;

/// What is particular to `[jwt.NAME]`.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// Where a request holds its token.
    pub from: CredentialPlace,
    /// What `iss` must be; `None`: anything.
    pub issuer: Option<String>,
    /// One of what `aud` must hold; `None`: anything.
    pub audience: Option<Vec<String>>,
    /// Algorithms that are taken; all fit the keys.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Where the keys come from.
    pub source: JwtKeys,
    /// What was there when the configuration was read.
    pub keys: KeySet,
    /// The file's state before that.
    pub state: Option<FileState>,
    /// How far the issuer's clock may be off.
    pub clock_skew: Duration,
    /// Claims that must be there.
    pub required_claims: Vec<String>,
    /// The claim with the consumer's name.
    pub consumer_claim: String,
    /// The claim with its groups.
    pub groups_claim: String,
    /// The claim with its plan.
    pub plan_claim: Option<String>,
    /// Claims that limits count by.
    pub kept_claims: Vec<String>,
    /// Verified tokens that a worker remembers.
    pub cache: u32,
}

/// Where keys come from, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtKeys {
    /// A JSON Web Key Set that is fetched.
    Url(Arc<KeyUrl>),
    /// A JSON Web Key Set.
    Set(PathBuf),
    /// PEM.
    Pem(PathBuf),
    /// A secret.
    Secret(PathBuf),
}

impl JwtKeys {
    /// Where the file is, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Set(path) | Self::Pem(path) | Self::Secret(path) => Some(path),
            Self::Url(_) => None,
        }
    }

    /// The key that names it in the configuration.
    const fn key(&self) -> &'static str {
        match self {
            Self::Url(_) => "jwks_url",
            Self::Set(_) => "jwks_file",
            Self::Pem(_) => "key_file",
            Self::Secret(_) => "secret_file",
        }
    }
}

impl AuthenticatorConfig {
    /// Where its keys are fetched from, if they are.
    #[must_use]
    pub fn key_url(&self) -> Option<&str> {
        match &self.kind {
            AuthenticatorKind::Jwt(jwt) => match &jwt.source {
                JwtKeys::Url(url) => Some(&url.url),
                _ => None,
            },
            _ => None,
        }
    }
}

pub(super) static KEYS: Keys = Keys {
    header: "[jwt.NAME]",
    text: "JSON Web Tokens: a request shows a token that an issuer has signed. `routes.auth` names it. More in [auth.md](auth.md). Verifying a signature takes the worker's time, once for each token that its cache holds.",
    rows: &[
        &ISSUER,
        &AUDIENCE,
        key_url::ROWS[0],
        &JWKS_FILE,
        &KEY_FILE,
        &SECRET_FILE,
        key_url::ROWS[1],
        key_url::ROWS[2],
        key_url::ROWS[3],
        key_url::ROWS[4],
        key_url::ROWS[5],
        key_url::ROWS[6],
        &ALGORITHMS,
        &CLOCK_SKEW,
        &REQUIRED,
        &CONSUMER_CLAIM,
        &GROUPS_CLAIM,
        &PLAN_CLAIM,
        &HEADER,
        &COOKIE,
        &CACHE,
        &FORWARD,
    ],
    unsupported: &[
        "secret",
        "jwks",
        "leeway",
        "scopes",
        "introspection_url",
        "query",
    ],
};

fn claim_text(text: &str) -> Result<String, String> {
    if (1..=CLAIM_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "a text of 1 to {CLAIM_BYTES_MAX} bytes without control characters"
        ))
    }
}

const CLAIM: Text<String> = Text {
    expects: "a claim's name",
    parse: claim_text,
    show: String::clone,
};

static ISSUER: Required<Or<Text<String>>> = Required {
    name: "issuer",
    kind: Or {
        word: "any",
        kind: Text {
            expects: "an issuer such as \"https://id.example.com/\"",
            parse: claim_text,
            show: String::clone,
        },
    },
    text: "What `iss` must be, to the letter. `any`: it is not looked at.",
};

static AUDIENCE: OneOrMore<Or<Text<String>>> = OneOrMore {
    name: "audience",
    item: Or {
        word: "any",
        kind: Text {
            expects: "an audience such as \"https://api.example.com\"",
            parse: claim_text,
            show: String::clone,
        },
    },
    max: LIST_MAX,
    default: None,
    text: "`aud` must hold one of these. `any`: it is not looked at, and a token that the issuer made for somebody else is good here too.",
};

static JWKS_FILE: Optional<Text<PathBuf>> = Optional {
    name: "jwks_file",
    kind: FILE,
    absent: "one of the four",
    text: "A file with the issuer's key set (JSON). As all files of keys it is looked at every second and read again when it has changed.",
};

static KEY_FILE: Optional<Text<PathBuf>> = Optional {
    name: "key_file",
    kind: FILE,
    absent: "one of the four",
    text: "A file with public keys in PEM: RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519.",
};

static SECRET_FILE: Optional<Text<PathBuf>> = Optional {
    name: "secret_file",
    kind: FILE,
    absent: "one of the four",
    text: "A file with the secret of HS256, HS384 or HS512, at least as long as the hash: 32, 48 or 64 bytes. A final line end does not count.",
};

static ALGORITHMS: List<Word<JwtAlgorithm>> = List {
    name: "algorithms",
    item: Word {
        words: JwtAlgorithm::WORDS,
    },
    text: "Algorithms that are taken. None written: all that the kind of key can have, HS256 to HS512 for a secret and the others for public keys.",
};

static CLOCK_SKEW: Key<Time> = Key {
    name: "clock_skew",
    kind: Time {
        min: Duration::ZERO,
        max: Duration::from_secs(600),
    },
    default: Duration::from_secs(30),
    text: "How far the issuer's clock may be off, for `exp` and `nbf`; whole seconds count. A token without `exp` is refused.",
};

static REQUIRED: List<Text<String>> = List {
    name: "required_claims",
    item: CLAIM,
    text: "Claims that a token must have, whatever they are.",
};

static CONSUMER_CLAIM: Optional<Text<String>> = Optional {
    name: "consumer_claim",
    kind: CLAIM,
    absent: "sub",
    text: "The claim that names the consumer: 1 to 256 visible ASCII characters.",
};

static GROUPS_CLAIM: Optional<Text<String>> = Optional {
    name: "groups_claim",
    kind: CLAIM,
    absent: "groups",
    text: "The claim that holds its groups: an array, or a text with blanks between, such as `scope`.",
};

static PLAN_CLAIM: Optional<Text<String>> = Optional {
    name: "plan_claim",
    kind: CLAIM,
    absent: "none",
    text: "The claim that holds its plan; where a token has none, that of `[consumers.NAME]`.",
};

static HEADER: Optional<Text<String>> = Optional {
    name: "header",
    kind: Text {
        expects: "a header's name",
        parse: |text| token(text, text).map(str::to_ascii_lowercase),
        show: String::clone,
    },
    absent: "authorization, where no other place is written",
    text: "The header that holds the token; in `authorization` it stands after `Bearer`.",
};

static COOKIE: Optional<Text<String>> = Optional {
    name: "cookie",
    kind: Text {
        expects: "a cookie's name",
        parse: |text| token(text, text).map(str::to_owned),
        show: String::clone,
    },
    absent: "see `header`",
    text: "The cookie that holds the token, in place of `header`.",
};

static CACHE: Key<Integer<u32>> = Key {
    name: "cache",
    kind: Integer::new(0, 65_536),
    default: 1024,
    text: "Verified tokens that each worker remembers, some 1 to 9 KiB each as they come; 0 verifies every request's. A revoked key empties it.",
};

/// Reads every section, and the files that they name. `kept_claims`: what limits count by.
pub(super) fn read(
    sections: Vec<(Located<String>, Section<'_>)>,
    kept_claims: &[String],
    all: &mut Named,
) {
    let mut urls: Vec<(String, Arc<KeyUrl>)> = Vec::new();
    for (name, section) in sections {
        let issuer = section.require(&ISSUER).and_then(|issuer| issuer.value);
        let audience = section
            .one_or_more(&AUDIENCE)
            .map(|list| read_audience(&section, list));
        let source = read_source(&section);
        if let Some(JwtKeys::Url(url)) = &source {
            check_same(&section, url, &urls);
            urls.push((name.value.clone(), Arc::clone(url)));
        }
        let algorithms = read_algorithms(&section, source.as_ref());
        // Before the file is read: a change in between is seen as one.
        let state = source
            .as_ref()
            .and_then(|source| key_file::state(source.path()?));
        let keys = source
            .as_ref()
            .map(|source| read_keys(&section, source, &algorithms));
        let claim = |key: &Optional<Text<String>>, default: &str| {
            section
                .find(key)
                .map_or_else(|| default.to_owned(), |claim| claim.value)
        };
        let config = JwtConfig {
            from: read_place(&section),
            issuer,
            audience: audience.flatten(),
            algorithms,
            source: source.unwrap_or(JwtKeys::Pem(PathBuf::new())),
            keys: keys.unwrap_or_default(),
            state,
            clock_skew: section.get(&CLOCK_SKEW),
            required_claims: section
                .list(&REQUIRED)
                .into_iter()
                .map(|claim| claim.value)
                .collect(),
            consumer_claim: claim(&CONSUMER_CLAIM, "sub"),
            groups_claim: claim(&GROUPS_CLAIM, "groups"),
            plan_claim: section.find(&PLAN_CLAIM).map(|claim| claim.value),
            kept_claims: kept_claims.to_vec(),
            cache: section.get(&CACHE),
        };
        let authenticator = AuthenticatorConfig {
            name: name.value.clone(),
            forward_credentials: section.get(&FORWARD),
            kind: AuthenticatorKind::Jwt(Box::new(config)),
        };
        all.add("jwt", &name, &section, authenticator);
    }
}

fn read_audience(section: &Section<'_>, list: Vec<Located<Option<String>>>) -> Option<Vec<String>> {
    let several = list.len() > 1;
    let audiences: Option<Vec<String>> = list.into_iter().map(|each| each.value).collect();
    if audiences.is_none() && several {
        section.problem(AUDIENCE.name, "\"any\" stands alone");
    }
    audiences
}

fn read_place(section: &Section<'_>) -> CredentialPlace {
    if section.has(HEADER.name) && section.has(COOKIE.name) {
        section.problem(COOKIE.name, "write either `header` or `cookie`, not both");
    }
    let header = section.find(&HEADER).map(|name| name.value);
    match section.find(&COOKIE) {
        Some(cookie) => CredentialPlace::Cookie(cookie.value),
        None => CredentialPlace::Header(header.unwrap_or_else(|| "authorization".to_owned())),
    }
}

/// Where the keys come from; `None`: a problem was noted.
fn read_source(section: &Section<'_>) -> Option<JwtKeys> {
    let written = [
        key_url::URL.name,
        JWKS_FILE.name,
        KEY_FILE.name,
        SECRET_FILE.name,
    ];
    let mut written = written.into_iter().filter(|name| section.has(name));
    let Some(first) = written.next() else {
        let message = "missing; write where the keys are: `jwks_url`, `jwks_file`, `key_file` or `secret_file`";
        section.problem(JWKS_FILE.name, message);
        return None;
    };
    if let Some(second) = written.next() {
        let message = format!("write either `{first}` or `{second}`, not both");
        section.problem(second, message);
        return None;
    }
    if first == key_url::URL.name {
        return key_url::read(section).map(Arc::new).map(JwtKeys::Url);
    }
    key_url::refuse_without_url(section);
    let file = |key: &Optional<Text<PathBuf>>| section.find(key).map(|file| file.value);
    match first {
        "jwks_file" => file(&JWKS_FILE).map(JwtKeys::Set),
        "key_file" => file(&KEY_FILE).map(JwtKeys::Pem),
        _ => file(&SECRET_FILE).map(JwtKeys::Secret),
    }
}

/// A set is fetched once for all that use it, so they must agree on how.
fn check_same(section: &Section<'_>, url: &KeyUrl, others: &[(String, Arc<KeyUrl>)]) {
    let other = others.iter().find(|(_, other)| other.url == url.url);
    if let Some((name, other)) = other
        && **other != *url
    {
        let message = format!(
            "[jwt.{name}] has the same URL, which is fetched once for both; write the same `jwks_` keys there"
        );
        section.problem(key_url::URL.name, message);
    }
}

/// The keys as they are now; a set without any where they are fetched later or a problem was noted.
fn read_keys(section: &Section<'_>, source: &JwtKeys, algorithms: &[JwtAlgorithm]) -> KeySet {
    if source.path().is_none() {
        return KeySet::default();
    }
    let set = match key_set::read(source) {
        Ok(set) => set,
        Err(problem) => {
            section.problem(source.key(), problem);
            return KeySet::default();
        }
    };
    // Those of the other kind were noted where they stand.
    let is_secret = matches!(source, JwtKeys::Secret(_));
    let ours = algorithms.iter().filter(|each| each.is_hmac() == is_secret);
    let ours: Vec<_> = ours.copied().collect();
    if !ours.is_empty()
        && let Err(problem) = set.check_fit(&ours)
    {
        section.problem(source.key(), problem);
    }
    set
}

fn read_algorithms(section: &Section<'_>, keys: Option<&JwtKeys>) -> Vec<JwtAlgorithm> {
    let is_secret = matches!(keys, Some(JwtKeys::Secret(_)));
    let fits = |algorithm: &JwtAlgorithm| algorithm.is_hmac() == is_secret;
    let written = section.list(&ALGORITHMS);
    for algorithm in &written {
        if keys.is_some() && !fits(&algorithm.value) {
            let name = algorithm.value.name();
            let message = if is_secret {
                format!("{name} needs public keys; `secret_file` serves HS256, HS384 and HS512")
            } else {
                format!(
                    "{name} needs a `secret_file`; with public keys whoever has them could sign"
                )
            };
            section.problem_at(algorithm.at, ALGORITHMS.name, message);
        }
    }
    if section.is_empty_array(ALGORITHMS.name) {
        section.problem(
            ALGORITHMS.name,
            "an empty array; for all that the keys can have leave it out",
        );
    }
    if written.is_empty() {
        let all = JwtAlgorithm::WORDS.iter().map(|(_, algorithm)| *algorithm);
        return all.filter(fits).collect();
    }
    written
        .into_iter()
        .map(|algorithm| algorithm.value)
        .collect()
}
