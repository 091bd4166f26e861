//! How the endpoints of an upstream share its requests: `upstreams.NAME.balance` and `hash_key`.

use super::key::{Key, Optional};
use super::kind::{Text, Word};
use super::limit_key::{near_part, parse_part};
use super::resolved::KeyPart;
use super::section::Section;

/// `upstreams.NAME.balance`. All of them honour weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each in its turn.
    RoundRobin,
    /// The one with the fewest requests in flight.
    LeastRequest,
    /// The better of two that chance names, by requests in flight.
    TwoChoices,
    /// Whichever chance names.
    Random,
    /// The one that a value of the request stands for.
    Hash(HashKey),
}

/// `upstreams.NAME.hash_key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A value that limits know too: header, cookie, query parameter, client address, segment of the path.
    Part(KeyPart),
    /// The whole path.
    Path,
}

/// `balance` as it is written; [`Policy::Hash`] needs a key beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    RoundRobin,
    LeastRequest,
    TwoChoices,
    Random,
    Hash,
}

pub(super) static BALANCE: Key<Word<Policy>> = Key {
    name: "balance",
    kind: Word {
        words: &[
            ("round_robin", Policy::RoundRobin),
            ("least_request", Policy::LeastRequest),
            ("p2c", Policy::TwoChoices),
            ("random", Policy::Random),
            ("hash", Policy::Hash),
        ],
    },
    default: Policy::RoundRobin,
    text: "Which endpoint gets a request, see [upstreams.md](upstreams.md#which-endpoint-gets-a-request). `least_request` and `p2c` count requests in flight over all workers, one shared word per endpoint; `hash` needs `hash_key` and a table of 128 KiB.",
};

const HASH_KEY_EXPECTS: &str =
    "\"client_ip\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\", \"path\" or \"path:N\"";

pub(super) static HASH_KEY: Optional<Text<HashKey>> = Optional {
    name: "hash_key",
    kind: Text {
        expects: HASH_KEY_EXPECTS,
        parse: parse_hash_key,
        show: |_| String::new(),
    },
    absent: "none",
    text: "With `balance = \"hash\"`: requests with the same value go to the same endpoint, on every worker and after a restart too. A request without the value, or with several, goes where chance sends it.",
};

fn parse_hash_key(text: &str) -> Result<HashKey, String> {
    if text == "path" {
        return Ok(HashKey::Path);
    }
    match parse_part(text) {
        Ok(
            part @ (KeyPart::ClientIp
            | KeyPart::Header(_)
            | KeyPart::Cookie(_)
            | KeyPart::Query(_)
            | KeyPart::Path(_)),
        ) => Ok(HashKey::Part(part)),
        _ => {
            let words = ["client_ip", "header:", "cookie:", "query:", "path", "path:"];
            let near = near_part(text, &words);
            Err(format!("`{text}` is not one of {HASH_KEY_EXPECTS}{near}"))
        }
    }
}

/// Reads both keys, which only make sense together.
pub(super) fn read(upstream: &Section<'_>) -> Balance {
    let policy = upstream.get(&BALANCE);
    let key = upstream.find(&HASH_KEY);
    if policy != Policy::Hash && upstream.has(HASH_KEY.name) {
        upstream.problem(HASH_KEY.name, "has no meaning without `balance = \"hash\"`");
    }
    match policy {
        Policy::RoundRobin => Balance::RoundRobin,
        Policy::LeastRequest => Balance::LeastRequest,
        Policy::TwoChoices => Balance::TwoChoices,
        Policy::Random => Balance::Random,
        Policy::Hash => {
            if !upstream.has(HASH_KEY.name) {
                let message = format!("`balance = \"hash\"` needs it; expected {HASH_KEY_EXPECTS}");
                upstream.problem(HASH_KEY.name, message);
            }
            Balance::Hash(key.map_or(HashKey::Path, |key| key.value))
        }
    }
}
