//! `[api_keys.NAME]`: callers that show a key of which a file holds the hash.

use std::path::PathBuf;

use super::credentials::{COOKIE, FORWARD, HEADER, Named, QUERY, read_place};
use super::key::{Keys, Required};
use super::key_file;
use super::kind::Text;
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
    kind: Text {
        expects: "a file's path",
        parse: parse_path,
        show: |path| path.display().to_string(),
    },
    text: "The file: a line `CONSUMER sha256:HASH` for each key, as `ringgate hash-key` makes it; at most 1000000 keys, some 200 bytes of memory each. It is looked at every second and read again when it has changed; a file with a mistake changes nothing.",
};

pub(super) fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("an empty path".into());
    }
    Ok(text.into())
}

/// Reads every section, and the files that they name.
pub(super) fn read(sections: Vec<(Located<String>, Section<'_>)>, all: &mut Named) {
    for (name, section) in sections {
        let from = read_place(&section, "x-api-key");
        let file = section.require(&FILE);
        let state = file.as_ref().and_then(|file| key_file::state(&file.value));
        let keys = file.as_ref().map(|file| {
            key_file::read(&file.value).unwrap_or_else(|problem| {
                section.problem(FILE.name, problem);
                Vec::new()
            })
        });
        let authenticator = AuthenticatorConfig {
            name: name.value.clone(),
            forward_credentials: section.get(&FORWARD),
            kind: AuthenticatorKind::ApiKeys(ApiKeysConfig {
                from,
                file: file.map(|file| file.value).unwrap_or_default(),
                keys: keys.unwrap_or_default(),
                state,
            }),
        };
        all.add("api_keys", &name, &section, authenticator);
    }
}
