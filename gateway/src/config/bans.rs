//! `[bans.NAME]`: a penalty for clients that are refused again and again.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::address::parse_name;
use super::filters::{FilterMode, mode_row};
use super::key::{Key, Keys, List};
use super::kind::{Integer, Size, TableSize, Time, Word};
use super::resolved::MaxKeys;
use super::section::{Located, Section};

pub(super) static KEYS: Keys = Keys {
    header: "[bans.NAME]",
    text: "A penalty for clients whose requests are refused again and again; `listeners.ban` names it. Clients are told apart by address, as in limits. Counted over the whole process and over all listeners that name it.",
    rows: &[
        &CAUSES, &REFUSALS, &WINDOW, &PENALTY, &ANSWER, &MAX_KEYS, &MODE,
    ],
    unsupported: &["statuses", "networks", "store"],
};

static CAUSES: List<Word<BanCause>> = List {
    name: "causes",
    item: Word {
        words: &[
            ("bad_request", BanCause::BadRequest),
            ("unauthorized", BanCause::Unauthorized),
            ("forbidden", BanCause::Forbidden),
            ("filtered", BanCause::Filtered),
            ("limited", BanCause::Limited),
            ("no_route", BanCause::NoRoute),
        ],
    },
    text: "Refusals that count, as `ringgate.end` of the access log calls them. Empty: `bad_request`, `unauthorized`, `forbidden` and `limited`. What an upstream answers does not count.",
};

static REFUSALS: Key<Integer<NonZeroU32>> = Key {
    name: "refusals",
    kind: Integer::new(1, 10_000),
    default: NonZeroU32::new(50).unwrap(),
    text: "So many of them in `window` begin the penalty.",
};

static WINDOW: Key<Time> = Key {
    name: "window",
    kind: Time {
        min: Duration::from_secs(1),
        max: Duration::from_secs(86_400),
    },
    default: Duration::from_secs(60),
    text: "Refusals are forgotten evenly, all of them in this time. Whole seconds.",
};

static PENALTY: Key<Time> = Key {
    name: "penalty",
    kind: Time {
        min: Duration::from_secs(1),
        max: Duration::from_secs(7 * 86_400),
    },
    default: Duration::from_secs(600),
    text: "How long the client's requests are refused then; what it asks meanwhile does not prolong it. Whole seconds.",
};

static ANSWER: Key<Word<BanAnswer>> = Key {
    name: "answer",
    kind: Word {
        words: &[
            ("429", BanAnswer::TooManyRequests),
            ("403", BanAnswer::Forbidden),
            ("close", BanAnswer::Close),
        ],
    },
    default: BanAnswer::TooManyRequests,
    text: "What it is told: 429 with `Retry-After`, 403, or nothing. The connection is closed in any case.",
};

static MAX_KEYS: Key<TableSize> = Key {
    name: "max_keys",
    kind: TableSize {
        bytes: Size::new(64 << 10, 1 << 30),
        keys: Integer::new(1, 30_000_000),
    },
    default: MaxKeys::Bytes(NonZeroU64::new(1 << 20).unwrap()),
    text: "Size of each of its two tables, of clients that were refused and of those under the penalty: memory, or clients, 30 bytes each. Where there is no room no client is put under a penalty.",
};

static MODE: Key<Word<FilterMode>> = mode_row(
    "`shadow` counts whose requests it would refuse, and refuses none; use it to introduce a ban. `off` counts nothing.",
);

/// What kind of refusal counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BanCause {
    /// The request breaks a rule of HTTP or of the listener.
    BadRequest,
    /// Nobody knows the caller.
    Unauthorized,
    /// The caller may not.
    Forbidden,
    /// A filter refused it.
    Filtered,
    /// A limit refused it.
    Limited,
    /// No route serves it.
    NoRoute,
}

/// What a banned client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BanAnswer {
    /// 429.
    TooManyRequests,
    /// 403.
    Forbidden,
    /// Nothing.
    Close,
}

/// One of `[bans.NAME]`.
#[derive(Clone, Debug)]
pub struct BanConfig {
    /// Unique name.
    pub name: String,
    /// What counts; never empty.
    pub causes: Vec<BanCause>,
    /// How many of them begin the penalty.
    pub refusals: NonZeroU32,
    /// In which time, in whole seconds.
    pub window_s: NonZeroU32,
    /// How long it lasts, in whole seconds.
    pub penalty_s: NonZeroU32,
    /// What a banned client is told.
    pub answer: BanAnswer,
    /// Size of each table.
    pub max_keys: MaxKeys,
    /// What a decision does.
    pub mode: FilterMode,
}

/// Reads every ban, in the order of the configuration.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>) -> Vec<BanConfig> {
    let one = |(name, section): (Located<String>, Section<'_>)| {
        if let Err(message) = parse_name(&name.value) {
            section.reader().problem(name.at, "bans", message);
        }
        let mut causes: Vec<BanCause> = Vec::new();
        for cause in section.list(&CAUSES) {
            if causes.contains(&cause.value) {
                section.problem_at(cause.at, CAUSES.name, "this cause is there twice");
            } else {
                causes.push(cause.value);
            }
        }
        if causes.is_empty() {
            causes = vec![
                BanCause::BadRequest,
                BanCause::Unauthorized,
                BanCause::Forbidden,
                BanCause::Limited,
            ];
        }
        BanConfig {
            name: name.value,
            causes,
            refusals: section.get(&REFUSALS),
            window_s: whole_seconds(&section, &WINDOW),
            penalty_s: whole_seconds(&section, &PENALTY),
            answer: section.get(&ANSWER),
            max_keys: section.get(&MAX_KEYS),
            mode: section.get(&MODE),
        }
    };
    sections.into_iter().map(one).collect()
}

fn whole_seconds(section: &Section<'_>, key: &Key<Time>) -> NonZeroU32 {
    let time = section.get(key);
    if time.subsec_nanos() != 0 {
        section.problem(key.name, "only whole seconds are counted here");
    }
    let seconds = u32::try_from(time.as_secs()).ok().and_then(NonZeroU32::new);
    seconds.unwrap_or(NonZeroU32::MIN)
}
