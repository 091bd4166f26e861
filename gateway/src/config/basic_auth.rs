//! `[basic_auth.NAME]`: callers that say a name and a password (RFC 7617), of which a file holds a slow hash.

use std::path::PathBuf;

use super::credentials::{FORWARD, Named, read_entries};
use super::key::{Key, Keys, Required};
use super::kind::{self, Integer, Text};
use super::password_file::{self, Password};
use super::resolved::{AuthenticatorConfig, AuthenticatorKind, FileState};
use super::respond::parse_value;
use super::section::{Located, Section};

pub(super) static KEYS: Keys = Keys {
    header: "[basic_auth.NAME]",
    text: "Names and passwords by HTTP Basic: a file holds a slow hash of each password. `routes.auth` names it. More in [auth.md](auth.md).",
    rows: &[&FILE, &REALM, &CACHE, &FORWARD],
    unsupported: &["users", "remove_header", "header_field", "hide_credentials"],
};

static FILE: Required<Text<PathBuf>> = Required {
    name: "file",
    kind: kind::FILE,
    text: "The file: a line `NAME:HASH` for each user, with argon2id in PHC form or bcrypt as `htpasswd -B` makes it; at most 10000. It is looked at every second and read again when it has changed; a file with a mistake changes nothing.",
};

static REALM: Key<Text<String>> = Key {
    name: "realm",
    kind: Text {
        expects: "a text without quotes",
        parse: parse_realm,
        show: String::clone,
    },
    default: String::new(),
    text: "What a browser shows when it asks for the password. Empty: the authenticator's name.",
};

static CACHE: Key<Integer<u32>> = Key {
    name: "cache",
    kind: Integer::new(4, 100_000),
    default: 1024,
    text: "Callers that each worker remembers, so that it verifies each password once; some 150 bytes each. What it remembers is a keyed hash.",
};

/// What is particular to `[basic_auth.NAME]`.
#[derive(Clone, Debug)]
pub struct BasicConfig {
    /// What a browser shows; valid in a quoted string.
    pub realm: String,
    /// The file of passwords, which is read again while the gateway runs.
    pub file: PathBuf,
    /// What it held when the configuration was read.
    pub passwords: Vec<Password>,
    /// The file's state before that.
    pub state: Option<FileState>,
    /// Callers that a worker remembers.
    pub cache: u32,
}

fn parse_realm(text: &str) -> Result<String, String> {
    if text.contains(['"', '\\']) || !text.is_ascii() {
        return Err("a realm is ASCII without quotes and backslashes".into());
    }
    parse_value(text)
}

/// Reads every section, and the files that they name.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>, all: &mut Named) {
    for (name, section) in sections {
        let (file, state, passwords) = read_entries(&section, &FILE, password_file::read);
        let realm = section.get(&REALM);
        let authenticator = AuthenticatorConfig {
            name: name.value.clone(),
            forward_credentials: section.get(&FORWARD),
            kind: AuthenticatorKind::Basic(BasicConfig {
                realm: if realm.is_empty() {
                    name.value.clone()
                } else {
                    realm
                },
                file,
                passwords,
                state,
                cache: section.get(&CACHE),
            }),
        };
        all.add("basic_auth", &name, &section, authenticator);
    }
}
