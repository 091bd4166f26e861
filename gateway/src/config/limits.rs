//! `[limits.NAME]`: how many requests of one client a route takes.

use std::num::NonZeroU64;

use limiter::{Period, Quota, QuotaError};

use super::address::parse_name;
use super::key::{Key, Keys, Optional, Required};
use super::kind::{Frequency, Integer, Size, Text, Word};
use super::resolved::{LimitConfig, LimitKey, LimitMode, Rate};
use super::section::{Located, Section};

pub(super) static KEYS: Keys = Keys {
    header: "[limits.NAME]",
    text: "Token buckets, one for each client; routes name them. A limit counts over the whole process, on any number of workers, and over all routes that name it.",
    rows: &[&KEY, &RATE, &BURST, &MODE, &MAX_KEYS, &STATUS],
    unsupported: &[
        "headers",
        "headers_when",
        "cost",
        "algorithm",
        "store",
        "on_store_failure",
        "scope",
    ],
};

/// The limiter counts in nanoseconds: a unit of a faster rate would take less than one.
const UNITS_MAX: u64 = 1_000_000_000;

static KEY: Key<Text<LimitKey>> = Key {
    name: "key",
    kind: Text {
        expects: "\"client_ip\"",
        parse: parse_key,
        show: |_| "client_ip".into(),
    },
    default: LimitKey::ClientIp,
    text: "What is counted by: the client's address (IPv6 by `client_ip.ipv6_prefix`).",
};

static RATE: Required<Frequency> = Required {
    name: "rate",
    kind: Frequency {
        units_max: UNITS_MAX,
    },
    text: "Requests in a second, minute, hour or day, evenly spaced: \"6/m\" gives one back every 10 seconds.",
};

static BURST: Optional<Integer<NonZeroU64>> = Optional {
    name: "burst",
    kind: Integer::new(1, UNITS_MAX),
    absent: "the units of `rate`",
    text: "Requests that may come at once after a quiet time.",
};

static MODE: Key<Word<LimitMode>> = Key {
    name: "mode",
    kind: Word {
        words: &[
            ("enforce", LimitMode::Enforce),
            ("shadow", LimitMode::Shadow),
            ("off", LimitMode::Off),
        ],
    },
    default: LimitMode::Enforce,
    text: "`shadow` counts and logs what it would refuse, and refuses nothing; use it to introduce a limit.",
};

static MAX_KEYS: Key<Size<NonZeroU64>> = Key {
    name: "max_keys",
    kind: Size::new(64 << 10, 64 << 30),
    default: NonZeroU64::new(4 << 20).unwrap(),
    text: "Memory of the table of clients, taken at start and never exceeded; 27 bytes for each client that has used units not refilled yet. At least 1KiB for each worker.",
};

static STATUS: Key<Integer<u16>> = Key {
    name: "status",
    kind: Integer::new(400, 599),
    default: 429,
    text: "Status of a refusal.",
};

/// Reads every limit, in the order of the file.
///
/// One without a usable rate is kept with a placeholder, so that routes that name it are not reported as well; its
/// problem was noted, and a reading with problems is never used.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>) -> Vec<LimitConfig> {
    sections
        .into_iter()
        .map(|(name, section)| read_one(name, &section))
        .collect()
}

fn read_one(name: Located<String>, section: &Section<'_>) -> LimitConfig {
    if let Err(message) = parse_name(&name.value) {
        section.reader().problem(name.at, "limits", message);
    }
    let placeholder = Rate {
        units: NonZeroU64::MIN,
        period: std::time::Duration::from_secs(1),
    };
    let rate = section
        .require(&RATE)
        .map_or(placeholder, |rate| rate.value);
    let burst = section.find(&BURST).map_or(rate.units, |burst| burst.value);
    if let Err(error) = quota(rate, burst) {
        let message = match error {
            QuotaError::BurstTooLong { .. } => "takes more than 2.2 years to refill at this rate",
            _ => "rate and burst are beyond what a limit can count",
        };
        section.problem(BURST.name, message);
    }
    LimitConfig {
        name: name.value,
        key: section.get(&KEY),
        rate,
        burst,
        mode: section.get(&MODE),
        table_bytes: section.get(&MAX_KEYS),
        status: section.get(&STATUS),
    }
}

/// The quota that the limiter makes of both, which knows its own bounds.
fn quota(rate: Rate, burst: NonZeroU64) -> Result<Quota, QuotaError> {
    Quota::new(
        rate.units.get(),
        Period::try_from(rate.period)?,
        burst.get(),
    )
}

fn parse_key(text: &str) -> Result<LimitKey, String> {
    let later = ["route", "consumer", "host", "method", "path"];
    let later_with_argument = ["header:", "jwt:", "cookie:", "query:"];
    if text == "client_ip" {
        Ok(LimitKey::ClientIp)
    } else if later.contains(&text)
        || later_with_argument
            .iter()
            .any(|start| text.starts_with(start))
    {
        Err(format!(
            "`{text}` is not supported in this version; write \"client_ip\""
        ))
    } else {
        Err(format!(
            "`{text}` is not a key of limits; write \"client_ip\""
        ))
    }
}
