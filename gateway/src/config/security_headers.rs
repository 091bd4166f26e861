//! `[security_headers.NAME]`: response fields that tell browsers to be careful.

use std::time::Duration;

use super::address::parse_name;
use super::key::{Key, Keys, Optional};
use super::kind::{Flag, Or, Text, Time, Word};
use super::respond::parse_value;
use super::section::{Located, Section};

pub(super) static KEYS: Keys = Keys {
    header: "[security_headers.NAME]",
    text: "Response fields that tell browsers to be careful; `routes.security_headers` names it. Each is written where the response does not have one, the gateway's own answers included.",
    rows: &[
        &HSTS,
        &HSTS_SUBDOMAINS,
        &HSTS_PRELOAD,
        &NOSNIFF,
        &FRAME_OPTIONS,
        &REFERRER_POLICY,
        &CONTENT_SECURITY_POLICY,
        &REPLACE,
    ],
    unsupported: &["xss_protection", "expect_ct", "permissions_policy"],
};

static HSTS: Key<Or<Time>> = Key {
    name: "hsts",
    kind: Or {
        word: "off",
        kind: Time {
            min: Duration::ZERO,
            max: Duration::from_secs(10 * 365 * 86_400),
        },
    },
    default: Some(Duration::from_secs(365 * 86_400)),
    text: "`Strict-Transport-Security`: how long browsers come by TLS alone. They heed it only where they came so.",
};

static HSTS_SUBDOMAINS: Key<Flag> = Key {
    name: "hsts_subdomains",
    kind: Flag,
    default: false,
    text: "Also to all hosts below this one.",
};

static HSTS_PRELOAD: Key<Flag> = Key {
    name: "hsts_preload",
    kind: Flag,
    default: false,
    text: "The host may be put into browsers' own lists, which is hard to take back; asks for `hsts_subdomains` and a year.",
};

static NOSNIFF: Key<Flag> = Key {
    name: "nosniff",
    kind: Flag,
    default: true,
    text: "`X-Content-Type-Options: nosniff`: the media type is what the response says.",
};

static FRAME_OPTIONS: Key<Word<FrameOptions>> = Key {
    name: "frame_options",
    kind: Word {
        words: &[
            ("deny", FrameOptions::Deny),
            ("sameorigin", FrameOptions::SameOrigin),
            ("off", FrameOptions::Off),
        ],
    },
    default: FrameOptions::SameOrigin,
    text: "`X-Frame-Options`: which pages may show it in a frame.",
};

static REFERRER_POLICY: Key<Word<&str>> = Key {
    name: "referrer_policy",
    kind: Word {
        words: &[
            ("no-referrer", "no-referrer"),
            ("same-origin", "same-origin"),
            ("strict-origin", "strict-origin"),
            (
                "strict-origin-when-cross-origin",
                "strict-origin-when-cross-origin",
            ),
            ("off", ""),
        ],
    },
    default: "strict-origin-when-cross-origin",
    text: "`Referrer-Policy`: how much of its address a page tells where its links lead.",
};

static CONTENT_SECURITY_POLICY: Optional<Text<String>> = Optional {
    name: "content_security_policy",
    kind: Text {
        expects: "a header value such as \"default-src 'self'\"",
        parse: parse_value,
        show: String::clone,
    },
    absent: "none",
    text: "`Content-Security-Policy`, as written.",
};

static REPLACE: Key<Flag> = Key {
    name: "replace",
    kind: Flag,
    default: false,
    text: "Write them in place of those of the upstream, too.",
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameOptions {
    Deny,
    SameOrigin,
    Off,
}

/// One of `[security_headers.NAME]`.
#[derive(Clone, Debug)]
pub struct SecurityHeadersConfig {
    /// Unique name.
    pub name: String,
    /// Names and values, no name twice.
    pub headers: Vec<(&'static str, String)>,
    /// Also in place of the upstream's.
    pub replace: bool,
}

/// Reads all of them, in the order of the configuration.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>) -> Vec<SecurityHeadersConfig> {
    let one = |(name, section): (Located<String>, Section<'_>)| {
        if let Err(message) = parse_name(&name.value) {
            section
                .reader()
                .problem(name.at, "security_headers", message);
        }
        let mut headers = Vec::new();
        if let Some(hsts) = read_hsts(&section) {
            headers.push(("Strict-Transport-Security", hsts));
        }
        if section.get(&NOSNIFF) {
            headers.push(("X-Content-Type-Options", "nosniff".to_owned()));
        }
        match section.get(&FRAME_OPTIONS) {
            FrameOptions::Deny => headers.push(("X-Frame-Options", "DENY".to_owned())),
            FrameOptions::SameOrigin => headers.push(("X-Frame-Options", "SAMEORIGIN".to_owned())),
            FrameOptions::Off => {}
        }
        match section.get(&REFERRER_POLICY) {
            "" => {}
            policy => headers.push(("Referrer-Policy", policy.to_owned())),
        }
        if let Some(policy) = section.find(&CONTENT_SECURITY_POLICY) {
            headers.push(("Content-Security-Policy", policy.value));
        }
        SecurityHeadersConfig {
            name: name.value,
            headers,
            replace: section.get(&REPLACE),
        }
    };
    sections.into_iter().map(one).collect()
}

/// The value of `Strict-Transport-Security` (RFC 6797, 6.1).
fn read_hsts(section: &Section<'_>) -> Option<String> {
    const YEAR_S: u64 = 365 * 86_400;
    let hsts = section.get(&HSTS);
    let subdomains = section.get(&HSTS_SUBDOMAINS);
    let preload = section.get(&HSTS_PRELOAD);
    let Some(hsts) = hsts else {
        for (name, is_set) in [
            (HSTS_SUBDOMAINS.name, subdomains),
            (HSTS_PRELOAD.name, preload),
        ] {
            if is_set {
                section.problem(name, "has no meaning with `hsts = \"off\"`");
            }
        }
        return None;
    };
    if preload && (!subdomains || hsts.as_secs() < YEAR_S) {
        section.problem(
            HSTS_PRELOAD.name,
            "no browser's list takes it without `hsts_subdomains` and `hsts` of at least \"365d\"",
        );
    }
    let mut value = format!("max-age={}", hsts.as_secs());
    if subdomains {
        value.push_str("; includeSubDomains");
    }
    if preload {
        value.push_str("; preload");
    }
    Some(value)
}
