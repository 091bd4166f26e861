//! `[network_lists.NAME]`: which client addresses may, by the longest network that holds them.

use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::address::parse_name;
use super::key::{Key, Keys, List, Optional, Required};
use super::kind::{FILE, Text, Word};
use super::limit_key::network;
use super::load::read_bounded;
use super::section::{Located, Section};

/// Most networks of a list, its files' among them.
const NETWORKS_MAX: usize = 1_000_000;
/// Most networks that stand in the configuration itself, for each of the two keys.
const INLINE_MAX: usize = 1024;
/// Largest file in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

pub(super) static KEYS: Keys = Keys {
    header: "[network_lists.NAME]",
    text: "Networks of clients that may or may not; `routes.network_lists` names it. Of all networks that hold an address the longest decides; of one that is allowed and denied, the denial. Read at the start.",
    rows: &[&ALLOW, &DENY, &ALLOW_FILE, &DENY_FILE, &OTHERWISE, &MODE],
    unsupported: &["refresh", "url", "status", "countries", "asn"],
};

const NETWORK: Text<IpNet> = Text {
    expects: "an address or network such as \"10.0.0.0/8\"",
    parse: network,
    show: IpNet::to_string,
};

static ALLOW: List<Text<IpNet>> = List {
    name: "allow",
    item: NETWORK,
    text: "Addresses and networks that may, at most 1024.",
};

static DENY: List<Text<IpNet>> = List {
    name: "deny",
    item: NETWORK,
    text: "Addresses and networks that get 403, at most 1024.",
};

static ALLOW_FILE: Optional<Text<PathBuf>> = Optional {
    name: "allow_file",
    kind: FILE,
    absent: "none",
    text: "A file with more of `allow`, one a line; `#` begins a comment.",
};

static DENY_FILE: Optional<Text<PathBuf>> = Optional {
    name: "deny_file",
    kind: FILE,
    absent: "none",
    text: "A file with more of `deny`. At most 1000000 networks in all, some 6 bytes each in IPv4 and 34 in IPv6.",
};

static OTHERWISE: Required<Word<NetworkVerdict>> = Required {
    name: "otherwise",
    kind: Word {
        words: &[
            ("allow", NetworkVerdict::Allow),
            ("deny", NetworkVerdict::Deny),
        ],
    },
    text: "What holds for an address in none of them.",
};

static MODE: Key<Word<NetworkMode>> = Key {
    name: "mode",
    kind: Word {
        words: &[
            ("enforce", NetworkMode::Enforce),
            ("shadow", NetworkMode::Shadow),
        ],
    },
    default: NetworkMode::Enforce,
    text: "`shadow` counts what it would refuse, and refuses nothing; use it to introduce a list.",
};

/// What is said of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkVerdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// What a refusal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// Refuses the request.
    Enforce,
    /// Counts, never refuses.
    Shadow,
}

/// One of `[network_lists.NAME]`.
#[derive(Clone, Debug)]
pub struct NetworkListConfig {
    /// Unique name.
    pub name: String,
    /// What is said of which networks, without host bits, in no order.
    pub networks: Vec<(IpNet, NetworkVerdict)>,
    /// What holds elsewhere.
    pub otherwise: NetworkVerdict,
    /// What a refusal does.
    pub mode: NetworkMode,
}

/// Reads every list and its files, in the order of the configuration.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>) -> Vec<NetworkListConfig> {
    let one = |(name, section): (Located<String>, Section<'_>)| {
        if let Err(message) = parse_name(&name.value) {
            section.reader().problem(name.at, "network_lists", message);
        }
        let mut networks = Vec::new();
        read_side(
            &section,
            (&ALLOW, &ALLOW_FILE),
            NetworkVerdict::Allow,
            &mut networks,
        );
        read_side(
            &section,
            (&DENY, &DENY_FILE),
            NetworkVerdict::Deny,
            &mut networks,
        );
        let otherwise = section.require(&OTHERWISE).map(|word| word.value);
        NetworkListConfig {
            name: name.value,
            networks,
            otherwise: otherwise.unwrap_or(NetworkVerdict::Deny),
            mode: section.get(&MODE),
        }
    };
    sections.into_iter().map(one).collect()
}

fn read_side(
    section: &Section<'_>,
    (inline, file): (&List<Text<IpNet>>, &Optional<Text<PathBuf>>),
    verdict: NetworkVerdict,
    networks: &mut Vec<(IpNet, NetworkVerdict)>,
) {
    let listed = section.list(inline);
    if listed.len() > INLINE_MAX {
        let message = format!(
            "at most {INLINE_MAX} here; found {}; more belong into `{}`",
            listed.len(),
            file.name
        );
        section.problem(inline.name, message);
    }
    networks.extend(listed.into_iter().map(|network| (network.value, verdict)));
    let Some(path) = section.find(file) else {
        return;
    };
    match read_file(&path.value, NETWORKS_MAX.saturating_sub(networks.len())) {
        Ok(found) => networks.extend(found.into_iter().map(|network| (network, verdict))),
        Err(problem) => section.problem(file.name, problem),
    }
}

fn read_file(path: &Path, most: usize) -> Result<Vec<IpNet>, String> {
    let shown = path.display();
    let bytes = read_bounded(path, FILE_BYTES_MAX)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))?;
    let mut networks = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let word = line.split_once('#').map_or(line, |(word, _)| word).trim();
        if word.is_empty() {
            continue;
        }
        networks.push(network(word).map_err(|problem| format!("{shown}:{number}: {problem}"))?);
        if networks.len() > most {
            return Err(format!(
                "{shown}:{number}: more than {NETWORKS_MAX} networks in all"
            ));
        }
    }
    Ok(networks)
}
