//! `[consumers.NAME]`: what is known of callers besides their name.

use std::collections::HashSet;

use super::address::parse_name;
use super::key::{Keys, List, Optional};
use super::key_file::check_consumer;
use super::kind::Text;
use super::resolved::{ConsumerConfig, GROUPS_MAX};
use super::section::{Located, Section};

pub(super) static KEYS: Keys = Keys {
    header: "[consumers.NAME]",
    text: "What is known of a caller that an authenticator calls by this name. Callers need no section: one without has no group and no plan.",
    rows: &[&GROUPS, &PLAN],
    unsupported: &["id", "tags", "custom_id", "username"],
};

pub(super) const GROUP_KIND: Text<String> = Text {
    expects: "a name",
    parse: parse_name,
    show: String::clone,
};

static GROUPS: List<Text<String>> = List {
    name: "groups",
    item: GROUP_KIND,
    text: "Groups that it belongs to, at most 32; `routes.groups` asks for them, and `X-Consumer-Groups` tells them to the upstream.",
};

static PLAN: Optional<Text<String>> = Optional {
    name: "plan",
    kind: GROUP_KIND,
    absent: "none",
    text: "Its plan: a key of limits, and of their overrides; `X-Consumer-Plan` tells it to the upstream.",
};

/// Reads every consumer, in the order of the file.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>) -> Vec<ConsumerConfig> {
    let one = |(name, section): (Located<String>, Section<'_>)| {
        if let Err(message) = check_consumer(&name.value) {
            section.reader().problem(name.at, "consumers", message);
        }
        ConsumerConfig {
            name: name.value,
            groups: read_groups(&section, &GROUPS),
            plan: section.find(&PLAN).map(|plan| plan.value),
        }
    };
    sections.into_iter().map(one).collect()
}

/// The groups under a key, noted where they are too many or there twice.
pub(super) fn read_groups(section: &Section<'_>, key: &List<Text<String>>) -> Vec<String> {
    let groups = section.list(key);
    if groups.len() > GROUPS_MAX {
        let found = groups.len();
        section.problem(
            key.name,
            format!("at most {GROUPS_MAX} groups; found {found}"),
        );
    }
    note_twice(section, key.name, &groups);
    groups.into_iter().map(|group| group.value).collect()
}

/// Notes every element of a list that is there before.
pub(super) fn note_twice(section: &Section<'_>, key: &str, list: &[Located<String>]) {
    let mut seen = HashSet::new();
    for each in list {
        if !seen.insert(&each.value) {
            section.problem_at(each.at, key, format!("{} is there twice", each.shown()));
        }
    }
}
