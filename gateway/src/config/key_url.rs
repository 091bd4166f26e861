//! `jwks_url` of `[jwt.NAME]`: a key set that is fetched while the gateway runs, and how often.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::key::{Key, Optional, Row};
use super::kind::{FILE, Flag, Or, Text, Time};
use super::load::read_bounded;
use super::section::Section;

/// Longest URL in bytes.
const URL_BYTES_MAX: usize = 2048;
/// Largest file of authorities in bytes.
const CA_FILE_BYTES_MAX: u64 = 4 << 20;

/// Where a key set is fetched from, and when. Sections with the same URL have the same of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUrl {
    /// As it is written.
    pub url: String,
    /// Whether it is `https`.
    pub secure: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query, in origin form.
    pub target: String,
    /// Who may vouch for the server, in DER; `None`: those that the system trusts.
    pub authorities: Option<Vec<Vec<u8>>>,
    /// Between two fetches; `None`: as the answers say.
    pub refresh: Option<Duration>,
    /// The longest that one fetch takes.
    pub timeout: Duration,
    /// The shortest time from a fetch to one that an unknown key causes.
    pub cooldown: Duration,
    /// How long a set is used after it was fetched; `None`: until there is another.
    pub max_stale: Option<Duration>,
    /// Without a first set the gateway does not start.
    pub required: bool,
}

/// The rows, in the order of the reference page; `jwks_url` itself is the first.
pub(super) static ROWS: [&dyn Row; 7] = [
    &URL, &CA_FILE, &REFRESH, &TIMEOUT, &COOLDOWN, &MAX_STALE, &REQUIRED,
];

pub(super) static URL: Optional<Text<String>> = Optional {
    name: "jwks_url",
    kind: Text {
        expects: "an http:// or https:// URL",
        parse: |text| parse(text).map(|_| text.to_owned()),
        show: String::clone,
    },
    absent: "one of the four",
    text: "Where the issuer's key set is fetched from, by the control thread, at the start and then again and again; at most 1 MiB and 256 keys. Redirects are not followed. By http:// whoever is on the way can say what the keys are: for loopback and networks of one's own.",
};

static CA_FILE: Optional<Text<PathBuf>> = Optional {
    name: "jwks_ca_file",
    kind: FILE,
    absent: "the authorities that the system trusts",
    text: "A file with the certificates (PEM) of those who may vouch for the server of `jwks_url`, in place of the system's; read at the start.",
};

static REFRESH: Key<Or<Time>> = Key {
    name: "jwks_refresh",
    kind: Or {
        word: "auto",
        kind: Time {
            min: Duration::from_secs(1),
            max: Duration::from_secs(7 * 86_400),
        },
    },
    default: None,
    text: "Time from a fetch to the next, give or take a tenth. `auto`: what `Cache-Control: max-age` of the answer says, from one minute to one day, and five minutes where it says nothing.",
};

static TIMEOUT: Key<Time> = Key {
    name: "jwks_timeout",
    kind: Time {
        min: Duration::from_millis(100),
        max: Duration::from_secs(30),
    },
    default: Duration::from_secs(5),
    text: "The longest that a fetch takes, from the name to the last byte; a request with an unknown key may wait so long.",
};

static COOLDOWN: Key<Time> = Key {
    name: "jwks_cooldown",
    kind: Time {
        min: Duration::from_secs(1),
        max: Duration::from_secs(86_400),
    },
    default: Duration::from_secs(30),
    text: "A token that names a key (`kid`) that the set lacks has the set fetched before its time, but not sooner than this after the last fetch; until then it is refused.",
};

static MAX_STALE: Key<Or<Time>> = Key {
    name: "jwks_max_stale",
    kind: Or {
        word: "unlimited",
        kind: Time {
            min: Duration::from_secs(1),
            max: Duration::from_secs(30 * 86_400),
        },
    },
    default: Some(Duration::from_secs(86_400)),
    text: "How long a set is used after it was fetched while no other can be had; then its tokens get 503, `token_keys_missing`.",
};

static REQUIRED: Key<Flag> = Key {
    name: "jwks_required",
    kind: Flag,
    default: false,
    text: "Do not start without the first set. Off: the gateway starts, and tokens get 503, `token_keys_missing`, until there is one.",
};

/// The parts of a URL.
struct Parts {
    secure: bool,
    host: String,
    port: u16,
    target: String,
}

fn parse(text: &str) -> Result<Parts, String> {
    const EXPECTED: &str =
        "expected an http:// or https:// URL such as \"https://id.example.com/jwks.json\"";
    // The parser of URIs would drop a fragment without a word.
    if text.len() > URL_BYTES_MAX || text.contains('#') {
        return Err(format!(
            "{EXPECTED}, of at most {URL_BYTES_MAX} bytes and without a fragment"
        ));
    }
    let uri: Uri = text.parse().map_err(|_| EXPECTED.to_owned())?;
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(EXPECTED.into()),
    };
    let authority = uri.authority().ok_or(EXPECTED)?;
    // What the rules of fetching allow would then stand in logs.
    if authority.as_str().contains('@') {
        return Err("a user or password in a URL ends in logs; serve the key set without".into());
    }
    let host = authority.host().trim_matches(['[', ']']);
    let port = match authority.as_str().rsplit_once(':') {
        // Without a port, or with one that is none.
        Some((_, digits)) if !digits.ends_with(']') => authority
            .port_u16()
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("`{digits}` is no port"))?,
        _ => 0,
    };
    if host.is_empty() {
        return Err(EXPECTED.into());
    }
    let standard = if secure { 443 } else { 80 };
    Ok(Parts {
        secure,
        host: host.to_ascii_lowercase(),
        port: if port == 0 { standard } else { port },
        target: uri
            .path_and_query()
            .map_or("/", |it| it.as_str())
            .to_owned(),
    })
}

/// `jwks_url` and what belongs to it; `None`: a problem was noted.
pub(super) fn read(section: &Section<'_>) -> Option<KeyUrl> {
    let url = section.find(&URL)?.value;
    let parts = parse(&url).ok()?;
    let authorities = section.find(&CA_FILE).and_then(|file| {
        if !parts.secure {
            section.problem(CA_FILE.name, "an http:// URL shows no certificate");
        }
        read_authorities(&file.value)
            .map_err(|problem| section.problem(CA_FILE.name, problem))
            .ok()
    });
    Some(KeyUrl {
        url,
        secure: parts.secure,
        host: parts.host,
        port: parts.port,
        target: parts.target,
        authorities,
        refresh: section.get(&REFRESH),
        timeout: section.get(&TIMEOUT),
        cooldown: section.get(&COOLDOWN),
        max_stale: section.get(&MAX_STALE),
        required: section.get(&REQUIRED),
    })
}

/// Notes what is written for a URL where there is none.
pub(super) fn refuse_without_url(section: &Section<'_>) {
    for row in ROWS.iter().skip(1).filter(|row| section.has(row.name())) {
        section.problem(row.name(), "belongs to `jwks_url`, which is not written");
    }
}

fn read_authorities(file: &std::path::Path) -> Result<Vec<Vec<u8>>, String> {
    let shown = file.display();
    let text = read_bounded(file, CA_FILE_BYTES_MAX)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(all) if all.is_empty() => Err(format!("{shown} holds no CERTIFICATE in PEM")),
        Ok(all) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in &all {
                roots
                    .add(certificate.clone())
                    .map_err(|error| format!("{shown}: a certificate cannot vouch: {error}"))?;
            }
            Ok(all.iter().map(|each| each.to_vec()).collect())
        }
        Err(error) => Err(format!("{shown} is not PEM: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_into_what_is_connected_to_and_asked_for() {
        let read = |text: &str| {
            let parts = parse(text).unwrap();
            (parts.secure, parts.host, parts.port, parts.target)
        };
        assert_eq!(
            read("https://ID.example.com/a/jwks?x=1"),
            (true, "id.example.com".into(), 443, "/a/jwks?x=1".into())
        );
        assert_eq!(
            read("http://[::1]:8080"),
            (false, "::1".into(), 8080, "/".into())
        );
        assert_eq!(read("http://[::1]/"), (false, "::1".into(), 80, "/".into()));
        assert_eq!(
            read("http://10.0.0.1:81/k"),
            (false, "10.0.0.1".into(), 81, "/k".into())
        );
    }

    #[test]
    fn what_is_no_url_of_a_set_is_refused() {
        for bad in [
            "",
            "id.example.com",
            "/jwks",
            "ftp://a/",
            "file:///etc/passwd",
            "https://",
            "https:///a",
            "https://a/#b",
            "https://a b/",
            "https://a:99999/",
            "https://a:0/",
            "https://a:/",
            "https://a:x/",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let told = parse("https://me:secret@a/").err().unwrap();
        assert!(
            told.contains("password") && !told.contains("secret"),
            "{told}"
        );
        assert!(parse(&format!("https://a/{}", "b".repeat(URL_BYTES_MAX))).is_err());
    }
}
