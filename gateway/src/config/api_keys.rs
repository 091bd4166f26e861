//! `[api_keys.NAME]`: callers that show a key of which a file holds the hash.

use std::path::PathBuf;

use super::credentials::{COOKIE, FORWARD, HEADER, Named, QUERY, read_entries, read_place};
use super::key::{Keys, Required};
use super::key_file;
use super::kind::{self, Text};
use super::resolved::{ApiKeysConfig, AuthenticatorConfig, AuthenticatorKind};
use super::section::{Located, Section};

pub(super) static KEYS: Keys = Keys {
    header: "[api_keys.NAME]",
    text: "API keys: a request shows a key, a file holds its hash and whose it is. `routes.auth` names it. More in [auth.md](auth.md).",
    rows: &[&FILE, &HEADER, &QUERY, &COOKIE, &FORWARD],
    unsupported: &["keys", "realm", "hide_credentials", "prefix"],
};

static FILE: Required<Text<PathBuf>> = Required {
    name: "file",
    kind: kind::FILE,
    text: "The file: a line `CONSUMER sha256:HASH` for each key, as `ringgate hash-key` makes it; at most 1000000 keys, some 200 bytes of memory each. It is looked at every second and read again when it has changed; a file with a mistake changes nothing.",
};

/// Reads every section, and the files that they name.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>, all: &mut Named) {
    for (name, section) in sections {
        let from = read_place(&section, "x-api-key");
        let (file, state, keys) = read_entries(&section, &FILE, key_file::read);
        let authenticator = AuthenticatorConfig {
            name: name.value.clone(),
            forward_credentials: section.get(&FORWARD),
            kind: AuthenticatorKind::ApiKeys(ApiKeysConfig {
                from,
                file,
                keys,
                state,
            }),
        };
        all.add("api_keys", &name, &section, authenticator);
    }
}
