//! What the sections of authenticators share: their names, and where a request holds a credential.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::address::parse_name;
use super::key::{Key, Optional, Required};
use super::key_file;
use super::kind::{Flag, Text};
use super::limit_key::{parse_query_name, token};
use super::resolved::{AuthenticatorConfig, CredentialPlace, FileState};
use super::section::{Located, Section};

pub(super) static HEADER: Optional<Text<String>> = Optional {
    name: "header",
    kind: Text {
        expects: "a header's name such as \"x-api-key\"",
        parse: |text| token(text, text).map(str::to_ascii_lowercase),
        show: String::clone,
    },
    absent: "x-api-key, where no other place is written",
    text: "The header that holds the key; in `authorization` it stands after `Bearer`.",
};

pub(super) static QUERY: Optional<Text<String>> = Optional {
    name: "query",
    kind: Text {
        expects: "a query parameter's name such as \"api_key\"",
        parse: parse_query_name,
        show: String::clone,
    },
    absent: "see `header`",
    text: "The query parameter that holds the key, in place of `header`. It is taken out of the access log, but not out of what others log.",
};

pub(super) static COOKIE: Optional<Text<String>> = Optional {
    name: "cookie",
    kind: Text {
        expects: "a cookie's name such as \"key\"",
        parse: |text| token(text, text).map(str::to_owned),
        show: String::clone,
    },
    absent: "see `header`",
    text: "The cookie that holds the key, in place of `header`.",
};

pub(super) static FORWARD: Key<Flag> = Key {
    name: "forward_credentials",
    kind: Flag,
    default: false,
    text: "Send the credential on to the upstream. Off: it is taken out of the request.",
};

/// Where a request holds a credential; `default` is the header where none is written.
pub(super) fn read_place(section: &Section<'_>, default: &str) -> CredentialPlace {
    let found = [
        section
            .find(&HEADER)
            .map(|name| CredentialPlace::Header(name.value)),
        section
            .find(&QUERY)
            .map(|name| CredentialPlace::Query(name.value)),
        section
            .find(&COOKIE)
            .map(|name| CredentialPlace::Cookie(name.value)),
    ];
    let written = [HEADER.name, QUERY.name, COOKIE.name];
    let mut written = written.into_iter().filter(|name| section.has(name));
    if let (Some(first), Some(second)) = (written.next(), written.next()) {
        let message = format!("write either `{first}` or `{second}`, not both");
        section.problem(second, message);
    }
    let found = found.into_iter().flatten().next();
    found.unwrap_or_else(|| CredentialPlace::Header(default.to_owned()))
}

/// The file that a section names, its state before it was read, and what `read` finds in it; notes what is wrong with it.
pub(super) fn read_entries<T>(
    section: &Section<'_>,
    key: &'static Required<Text<PathBuf>>,
    read: fn(&Path) -> Result<Vec<T>, String>,
) -> (PathBuf, Option<FileState>, Vec<T>) {
    let Some(file) = section.require(key) else {
        return (PathBuf::new(), None, Vec::new());
    };
    let state = key_file::state(&file.value);
    let entries = read(&file.value).unwrap_or_else(|problem| {
        section.problem(key.name, problem);
        Vec::new()
    });
    (file.value, state, entries)
}

/// Authenticators as they are read, with the place where each is named.
#[derive(Default)]
pub(super) struct Named {
    seen: HashMap<String, &'static str>,
    /// In the order in which they were added.
    pub list: Vec<AuthenticatorConfig>,
}

impl Named {
    /// Adds one of `section`s; notes a name that is none or that another one has.
    pub(super) fn add(
        &mut self,
        kind: &'static str,
        name: &Located<String>,
        section: &Section<'_>,
        authenticator: AuthenticatorConfig,
    ) {
        if let Err(message) = parse_name(&name.value) {
            section.reader().problem(name.at, kind, message);
        } else if let Some(other) = self.seen.insert(name.value.clone(), kind) {
            let shown = name.shown();
            let message = format!("[{other}.NAME] has a {shown} too; routes could not tell which");
            section.reader().problem(name.at, kind, message);
        }
        self.list.push(authenticator);
    }
}
