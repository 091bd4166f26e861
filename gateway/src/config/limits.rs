//! `[limits.NAME]`: how many requests of one client a route takes.

use std::collections::HashSet;
use std::num::NonZeroU64;

use limiter::{Period, Quota, QuotaError};

use super::address::parse_name;
use super::key::{Key, Keys, Nested, OneOrMore, Optional, Required};
use super::kind::{Frequency, Integer, Size, TableSize, Text, Word, shown};
use super::limit_key::{PART_EXPECTS, parse_override, parse_part};
use super::resolved::{
    KeyPart, LIMIT_KEY_PARTS_MAX, LIMIT_OVERRIDES_MAX, LimitConfig, LimitMode, MaxKeys,
    OverrideConfig, OverrideKey, Rate,
};
use super::section::{Located, Section};

pub(super) static KEYS: Keys = Keys {
    header: "[limits.NAME]",
    text: "Token buckets, one for each key; routes name them. A limit counts over the whole process, on any number of workers, and over all routes that name it. More in [limits.md](limits.md).",
    rows: &[&KEY, &RATE, &BURST, &MODE, &MAX_KEYS, &STATUS, &OVERRIDES],
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

static KEY: OneOrMore<Text<KeyPart>> = OneOrMore {
    name: "key",
    item: Text {
        expects: PART_EXPECTS,
        parse: parse_part,
        show: shown,
    },
    max: LIMIT_KEY_PARTS_MAX,
    default: Some(KeyPart::ClientIp),
    text: "What is counted by: the client's address (IPv6 by `client_ip.ipv6_prefix`), a value of the request, the N-th segment of the path, the host, the route, or the consumer that `routes.auth` named, or its plan. An array counts by all of them together. Requests that lack a value share one bucket, and those that hold it several times another.",
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

const MODES: Word<LimitMode> = Word {
    words: &[
        ("enforce", LimitMode::Enforce),
        ("shadow", LimitMode::Shadow),
        ("off", LimitMode::Off),
    ],
};

static MODE: Key<Word<LimitMode>> = Key {
    name: "mode",
    kind: MODES,
    default: LimitMode::Enforce,
    text: "`shadow` counts and logs what it would refuse, and refuses nothing; use it to introduce a limit.",
};

static MAX_KEYS: Key<TableSize> = Key {
    name: "max_keys",
    kind: TableSize {
        bytes: Size::new(64 << 10, 64 << 30),
        keys: Integer::new(1, 2_000_000_000),
    },
    default: MaxKeys::Bytes(NonZeroU64::new(4 << 20).unwrap()),
    text: "Size of the table, taken at start and never exceeded: its memory, or the keys that may have used units not refilled yet, 30 bytes each. At least 1KiB for each worker. `ringgate check -v` shows both numbers.",
};

static STATUS: Key<Integer<u16>> = Key {
    name: "status",
    kind: Integer::new(400, 599),
    default: 429,
    text: "Status of a refusal.",
};

static OVERRIDES: Nested = Nested {
    name: "overrides",
    expects: "an array of tables such as [{ key = \"10.0.0.7\", rate = \"1000/s\" }]",
    absent: "none",
    text: "What listed keys get instead, at most 1024, see `limits.NAME.overrides`.",
};

pub(super) static OVERRIDE_KEYS: Keys = Keys {
    header: "limits.NAME.overrides",
    text: "What a listed key gets instead: `overrides = [{ key = \"10.0.0.7\", rate = \"1000/s\", burst = 2000 }, { key = \"10.1.0.0/16\", mode = \"off\" }]`. Each rate and burst has a table of its own, as large as its keys need and at most as large as the limit's.",
    rows: &[
        &OVERRIDE_KEY,
        &OVERRIDE_PLAN,
        &OVERRIDE_RATE,
        &OVERRIDE_BURST,
        &OVERRIDE_MODE,
    ],
    unsupported: &["status", "max_keys"],
};

static OVERRIDE_KEY: OneOrMore<Text<String>> = OneOrMore {
    name: "key",
    item: Text {
        expects: "a value of the limit's key",
        parse: |text| Ok(text.to_owned()),
        show: String::clone,
    },
    max: LIMIT_KEY_PARTS_MAX,
    default: None,
    text: "The key: for `client_ip` alone an address or a network, of which the longest counts and each address has a bucket; else the very value, decoded; for a key of several parts an array with a value for each.",
};

static OVERRIDE_PLAN: Optional<Text<String>> = Optional {
    name: "plan",
    kind: Text {
        expects: "a name",
        parse: parse_name,
        show: String::clone,
    },
    absent: "see `key`",
    text: "In place of `key`, where the limit counts by `consumer`: every consumer with this plan, each with a bucket of its own. An override by `key` goes before it.",
};

static OVERRIDE_RATE: Optional<Frequency> = Optional {
    name: "rate",
    kind: Frequency {
        units_max: UNITS_MAX,
    },
    absent: "the limit's, from the same table",
    text: "As for the limit.",
};

static OVERRIDE_BURST: Optional<Integer<NonZeroU64>> = Optional {
    name: "burst",
    kind: Integer::new(1, UNITS_MAX),
    absent: "the units of `rate`",
    text: "As for the limit; only together with `rate`.",
};

static OVERRIDE_MODE: Optional<Word<LimitMode>> = Optional {
    name: "mode",
    kind: MODES,
    absent: "the limit's",
    text: "As for the limit; `off` does not limit or count the key at all.",
};

/// Reads every limit, in the order of the file.
///
/// One without a usable rate is kept with a placeholder, so that routes that name it are not reported as well; its
/// problem was noted, and a reading with problems is never used.
///
/// `routes`: the names of all, to which overrides may refer.
pub(super) fn read(
    sections: Vec<(Located<String>, Section<'_>)>,
    routes: &[String],
) -> Vec<LimitConfig> {
    sections
        .into_iter()
        .map(|(name, section)| read_one(name, &section, routes))
        .collect()
}

fn read_one(name: Located<String>, section: &Section<'_>, routes: &[String]) -> LimitConfig {
    if let Err(message) = parse_name(&name.value) {
        section.reader().problem(name.at, "limits", message);
    }
    let rate = section.require(&RATE).map(|rate| rate.value);
    let (rate, burst) = read_quota(section, rate, section.find(&BURST));
    let key: Option<Vec<KeyPart>> = section
        .one_or_more(&KEY)
        .map(|parts| parts.into_iter().map(|part| part.value).collect());
    if let Some(parts) = &key
        && parts.iter().collect::<HashSet<_>>().len() < parts.len()
    {
        section.problem(KEY.name, "a part is there twice");
    }
    let mode = section.get(&MODE);
    LimitConfig {
        name: name.value,
        overrides: read_overrides(section, key.as_deref(), mode, routes),
        key: key.unwrap_or_default(),
        rate,
        burst,
        mode,
        max_keys: section.get(&MAX_KEYS),
        status: section.get(&STATUS),
    }
}

/// Rate and burst, noted where the limiter cannot count them.
fn read_quota(
    section: &Section<'_>,
    rate: Option<Rate>,
    burst: Option<Located<NonZeroU64>>,
) -> (Rate, NonZeroU64) {
    let rate = rate.unwrap_or(Rate {
        units: NonZeroU64::MIN,
        period: std::time::Duration::from_secs(1),
    });
    let burst = burst.map_or(rate.units, |burst| burst.value);
    if let Err(error) = quota(rate, burst) {
        let message = match error {
            QuotaError::BurstTooLong { .. } => "takes more than 2.2 years to refill at this rate",
            _ => "rate and burst are beyond what a limit can count",
        };
        section.problem(BURST.name, message);
    }
    (rate, burst)
}

/// `parts`: the limit's key; `None`: it was noted as bad, and no key of an override can be judged.
fn read_overrides(
    limit: &Section<'_>,
    parts: Option<&[KeyPart]>,
    mode: LimitMode,
    routes: &[String],
) -> Vec<OverrideConfig> {
    let sections = limit.tables(&OVERRIDES, &OVERRIDE_KEYS);
    if sections.len() > LIMIT_OVERRIDES_MAX {
        let found = sections.len();
        let message = format!("a limit has at most {LIMIT_OVERRIDES_MAX} overrides; found {found}");
        limit.problem(OVERRIDES.name, message);
        return Vec::new();
    }
    let mut seen: HashSet<OverrideKey> = HashSet::new();
    sections
        .iter()
        .filter_map(|section| {
            let plan = section.find(&OVERRIDE_PLAN).map(|plan| plan.value);
            let by_plan = section.has(OVERRIDE_PLAN.name);
            if by_plan && section.has(OVERRIDE_KEY.name) {
                section.problem(OVERRIDE_PLAN.name, "write either `key` or `plan`, not both");
            }
            let texts = if by_plan {
                None
            } else {
                section.one_or_more(&OVERRIDE_KEY)
            };
            let rate = section.find(&OVERRIDE_RATE);
            let burst = section.find(&OVERRIDE_BURST);
            let own_mode = section.find(&OVERRIDE_MODE).map(|mode| mode.value);
            if !section.has(OVERRIDE_RATE.name) && section.has(OVERRIDE_BURST.name) {
                section.problem(OVERRIDE_BURST.name, "a burst needs a `rate` beside it");
            } else if !section.has(OVERRIDE_RATE.name) && !section.has(OVERRIDE_MODE.name) {
                section.problem(
                    OVERRIDE_RATE.name,
                    "changes nothing; write `rate` or `mode`",
                );
            } else if rate.is_some() && own_mode == Some(LimitMode::Off) {
                section.problem(OVERRIDE_RATE.name, "has no meaning with `mode = \"off\"`");
            }
            let key = match plan {
                Some(plan) => read_plan(section, parts?, plan)?,
                None => read_key(section, parts?, texts?, routes)?,
            };
            if !seen.insert(key.clone()) {
                let (name, what) = match by_plan {
                    true => (OVERRIDE_PLAN.name, "plan"),
                    false => (OVERRIDE_KEY.name, "key"),
                };
                section.problem(name, format!("another override has this {what} too"));
            }
            Some(OverrideConfig {
                key,
                quota: rate.map(|rate| read_quota(section, Some(rate.value), burst)),
                mode: own_mode.unwrap_or(mode),
            })
        })
        .collect()
}

fn read_plan(section: &Section<'_>, parts: &[KeyPart], plan: String) -> Option<OverrideKey> {
    if parts.contains(&KeyPart::Consumer) {
        return Some(OverrideKey::Plan(plan));
    }
    let message = "only for a limit whose `key` is \"consumer\" or holds it";
    section.problem(OVERRIDE_PLAN.name, message);
    None
}

fn read_key(
    section: &Section<'_>,
    parts: &[KeyPart],
    texts: Vec<Located<String>>,
    routes: &[String],
) -> Option<OverrideKey> {
    let secret = texts.iter().any(|text| text.secret);
    let texts: Vec<String> = texts.into_iter().map(|text| text.value).collect();
    parse_override(parts, &texts, routes)
        .inspect_err(|message| {
            let hidden = "the value from the environment is no such key";
            let message = if secret { hidden } else { message };
            section.problem(OVERRIDE_KEY.name, message);
        })
        .ok()
}

/// The quota that the limiter makes of both, which knows its own bounds.
fn quota(rate: Rate, burst: NonZeroU64) -> Result<Quota, QuotaError> {
    Quota::new(
        rate.units.get(),
        Period::try_from(rate.period)?,
        burst.get(),
    )
}
