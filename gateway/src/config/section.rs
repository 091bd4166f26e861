//! Reading one table of the file by its rows, with every problem noted at its place.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigErrors, ConfigWarnings, PROBLEMS_MAX, Position, Problem};
use super::interpolate::interpolate;
use super::key::{Key, Keys, List, Nested, OneOrMore, Optional, Required};
use super::kind::{Kind, Written};
use super::nearest::did_you_mean;

/// What one reading of a file needs and finds.
pub(super) struct Reader<'a> {
    text: &'a str,
    env: &'a dyn Fn(&str) -> Option<String>,
    problems: RefCell<Vec<(usize, Problem)>>,
    unlisted: Cell<usize>,
    /// Doubts about what is right all the same, at most [`PROBLEMS_MAX`].
    warnings: RefCell<Vec<(usize, Problem)>>,
    /// Names of sections that others refer to, with what each holds.
    used: RefCell<BTreeSet<(&'static str, String)>>,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    /// The value.
    pub value: T,
    /// Byte offset in the text.
    pub at: usize,
    /// Part of it came from the environment: no message may show it.
    pub secret: bool,
}

/// One table of the file.
#[derive(Clone)]
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    /// `None`: the section is absent and every key takes its default.
    table: Option<&'a DeTable<'a>>,
    /// The section's name as messages show it, such as `upstreams.users`.
    path: Cow<'a, str>,
    /// Byte offset of its header.
    at: usize,
}

impl<T> Located<T> {
    /// The same place with another value.
    pub(super) fn map<U>(self, value: impl FnOnce(T) -> U) -> Located<U> {
        Located {
            value: value(self.value),
            at: self.at,
            secret: self.secret,
        }
    }
}

impl<T: fmt::Display> Located<T> {
    /// The value for a message, in backquotes, unless it came from the environment.
    pub(super) fn shown(&self) -> String {
        if self.secret {
            "the value from the environment".into()
        } else {
            format!("`{}`", self.value)
        }
    }
}

impl<'a> Reader<'a> {
    /// A reader of `text` that asks `env` for variables.
    pub(super) fn new(text: &'a str, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            text,
            env,
            problems: RefCell::default(),
            unlisted: Cell::new(0),
            warnings: RefCell::default(),
            used: RefCell::default(),
        }
    }

    /// Notes what is wrong with `key` at byte `at`.
    pub(super) fn problem(&self, at: usize, key: impl Into<String>, message: impl Into<String>) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() == PROBLEMS_MAX {
            self.unlisted.set(self.unlisted.get() + 1);
            return;
        }
        problems.push((at, self.problem_of(at, key.into(), message.into())));
    }

    /// Notes a doubt about `key` at byte `at`: what is written there is served all the same.
    pub(super) fn warn(&self, at: usize, key: impl Into<String>, message: impl Into<String>) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < PROBLEMS_MAX {
            warnings.push((at, self.problem_of(at, key.into(), message.into())));
        }
    }

    fn problem_of(&self, at: usize, key: String, message: String) -> Problem {
        Problem {
            position: Some(Position::of(self.text, at)),
            key: one_line(key),
            message: one_line(message),
        }
    }

    /// Notes that something refers to the `what` of this name.
    pub(super) fn used(&self, what: &'static str, name: &str) {
        self.used.borrow_mut().insert((what, name.to_owned()));
    }

    /// Whether nothing was wrong.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// What is doubtful, in the order of the text.
    pub(super) fn into_warnings(self, file: &str) -> ConfigWarnings {
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by_key(|&(at, _)| at);
        ConfigWarnings {
            file: file.to_owned(),
            problems: warnings.into_iter().map(|(_, warning)| warning).collect(),
        }
    }

    /// What was found, in the order of the text.
    pub(super) fn into_errors(self, file: &str) -> ConfigErrors {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|&(at, _)| at);
        let problems = problems.into_iter().map(|(_, problem)| problem).collect();
        ConfigErrors {
            file: file.to_owned(),
            problems,
            unlisted: self.unlisted.get(),
        }
    }

    /// `; did you mean X?`, as long as problems are listed at all (the search costs time per candidate).
    pub(super) fn suggest(
        &self,
        word: &Located<String>,
        names: impl Iterator<Item = impl AsRef<str>>,
    ) -> String {
        if word.secret || self.problems.borrow().len() == PROBLEMS_MAX {
            return String::new();
        }
        did_you_mean(&word.value, names)
    }

    /// The value at `key` read by its kind; `None`: a problem was noted.
    fn value<K: Kind>(
        &self,
        key: &str,
        kind: &K,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Located<K::Value>> {
        let at = value.span().start;
        let (text, mut secret) = (value.get_ref().as_str(), false);
        let replaced;
        let written = match (text, value.get_ref()) {
            (Some(text), _) => match interpolate(text, self.env, kind.has_request_variables()) {
                Ok(interpolated) => {
                    secret = interpolated.secret;
                    replaced = interpolated.text;
                    Written::Text(&replaced)
                }
                Err(message) => {
                    self.problem(at, key, message);
                    return None;
                }
            },
            (None, DeValue::Integer(integer)) => {
                Written::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
            }
            (None, DeValue::Boolean(flag)) => Written::Flag(*flag),
            (None, other) => Written::Other(type_name(other)),
        };
        match kind.read(written) {
            Ok(value) => Some(Located { value, at, secret }),
            Err(_) if secret => {
                let expects = kind.expects();
                self.problem(
                    at,
                    key,
                    format!("expected {expects}; the value from the environment is not"),
                );
                None
            }
            Err(message) => {
                self.problem(at, key, message);
                None
            }
        }
    }
}

impl<'a> Section<'a> {
    /// The table at `path`, before its keys are checked.
    pub(super) fn new(
        reader: &'a Reader<'a>,
        path: impl Into<Cow<'a, str>>,
        table: &'a DeTable<'a>,
        at: usize,
    ) -> Self {
        Self {
            reader,
            table: Some(table),
            path: path.into(),
            at,
        }
    }

    /// Notes every key that is not one of `keys`.
    pub(super) fn check_keys(&self, keys: &Keys) {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name: &str = key.get_ref();
            if keys.rows.iter().any(|row| row.name() == name) {
                continue;
            }
            let names = || keys.rows.iter().map(|row| row.name());
            let near = did_you_mean(name, names());
            let message = if keys.unsupported.contains(&name) {
                format!("not supported in this version{near}")
            } else {
                let known = || format!("; known keys: {}", names().collect::<Vec<_>>().join(", "));
                format!(
                    "unknown key{}",
                    if near.is_empty() { known() } else { near }
                )
            };
            self.problem_at(key.span().start, name, message);
        }
    }

    /// Notes a problem with `name` where it is written, or with the whole section where it is not.
    pub(super) fn problem(&self, name: &str, message: impl Into<String>) {
        let at = self
            .lookup(name)
            .map_or(self.at, |value| value.span().start);
        self.reader.problem(at, self.key(name), message);
    }

    /// Notes a problem with `name` at a place within its value.
    pub(super) fn problem_at(&self, at: usize, name: &str, message: impl Into<String>) {
        self.reader.problem(at, self.key(name), message);
    }

    /// Where the value of `name` is written.
    pub(super) fn position(&self, name: &str) -> Option<Position> {
        let value = self.lookup(name)?;
        Some(Position::of(self.reader.text, value.span().start))
    }

    /// Notes texts at `name` that may be anything and are almost one of `words`, which have a meaning of their own. None that is of
    /// the environment.
    pub(super) fn warn_near(&self, name: &str, words: &[&str]) {
        let Some(value) = self.lookup(name) else {
            return;
        };
        let one = std::slice::from_ref(value);
        let texts = value.get_ref().as_array().map_or(one, |array| array);
        for each in texts {
            let Some(text) = each.get_ref().as_str() else {
                continue;
            };
            if words.contains(&text) || text.contains('$') {
                continue;
            }
            let near = did_you_mean(text, words);
            if !near.is_empty() {
                let message = format!("`{text}` is taken as it is written{near}");
                self.reader.warn(each.span().start, self.key(name), message);
            }
        }
    }

    /// Notes every table under a key (`[upstreams.NAME]`, each a `what`) that nothing has referred to.
    pub(super) fn warn_unused(&self, key: &Nested, what: &'static str, message: &str) {
        let tables = self
            .lookup(key.name)
            .and_then(|value| value.get_ref().as_table());
        let used = self.reader.used.borrow();
        for name in tables.into_iter().flat_map(|tables| tables.keys()) {
            if !used.contains(&(what, name.get_ref().to_string())) {
                let path = format!("{}.{}", self.key(key.name), name.get_ref());
                self.reader.warn(name.span().start, path, message);
            }
        }
    }

    /// The reader.
    pub(super) fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    /// Byte offset of the section's header.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Whether the key is written.
    pub(super) fn has(&self, name: &str) -> bool {
        self.lookup(name).is_some()
    }

    /// Whether the key holds an array without elements.
    pub(super) fn is_empty_array(&self, name: &str) -> bool {
        self.lookup(name)
            .and_then(|value| value.get_ref().as_array())
            .is_some_and(|array| array.is_empty())
    }

    /// The value of a key with a default, which also stands in for a bad value.
    pub(super) fn get<K: Kind>(&self, key: &Key<K>) -> K::Value
    where
        K::Value: Clone,
    {
        self.written(key.name, &key.kind)
            .map_or_else(|| key.default.clone(), |found| found.value)
    }

    /// The value of a key that must be there; `None`: a problem was noted.
    pub(super) fn require<K: Kind>(&self, key: &Required<K>) -> Option<Located<K::Value>> {
        if !self.has(key.name) {
            self.problem(
                key.name,
                format!("missing; expected {}", key.kind.expects()),
            );
        }
        self.written(key.name, &key.kind)
    }

    /// The value of a key that may be absent; also `None` where a problem was noted.
    pub(super) fn find<K: Kind>(&self, key: &Optional<K>) -> Option<Located<K::Value>> {
        self.written(key.name, &key.kind)
    }

    /// The elements of an array, without those that were noted as problems.
    pub(super) fn list<K: Kind>(&self, key: &List<K>) -> Vec<Located<K::Value>> {
        let Some(value) = self.lookup(key.name) else {
            return Vec::new();
        };
        let Some(elements) = value.get_ref().as_array() else {
            let expects = format!("an array; each element {}", key.item.expects());
            self.mismatch(key.name, value, &expects);
            return Vec::new();
        };
        let path = self.key(key.name);
        elements
            .iter()
            .filter_map(|element| self.reader.value(&path, &key.item, element))
            .collect()
    }

    /// The value or values of a key; `None`: a problem was noted with one of them, or with their number.
    pub(super) fn one_or_more<K: Kind>(&self, key: &OneOrMore<K>) -> Option<Vec<Located<K::Value>>>
    where
        K::Value: Clone,
    {
        let Some(value) = self.lookup(key.name) else {
            if key.default.is_none() {
                let expects = key.item.expects();
                self.problem(key.name, format!("missing; expected {expects}"));
            }
            let located = |value| Located {
                value,
                at: self.at,
                secret: false,
            };
            return key.default.clone().map(|value| vec![located(value)]);
        };
        let path = self.key(key.name);
        let Some(elements) = value.get_ref().as_array() else {
            return Some(vec![self.reader.value(&path, &key.item, value)?]);
        };
        if !(1..=key.max).contains(&elements.len()) {
            let (max, found) = (key.max, elements.len());
            let message = format!("an array here holds 1 to {max} values; found {found}");
            self.problem(key.name, message);
            return None;
        }
        let read: Vec<_> = elements
            .iter()
            .filter_map(|element| self.reader.value(&path, &key.item, element))
            .collect();
        (read.len() == elements.len()).then_some(read)
    }

    /// The table under a key; an absent one reads as all defaults.
    pub(super) fn table(&self, key: &Nested, keys: &Keys) -> Self {
        let path = self.key(key.name);
        let value = self.lookup(key.name);
        if let Some((value, table)) =
            value.and_then(|each| Some((each, each.get_ref().as_table()?)))
        {
            return self.open(path, table, value.span().start, keys);
        }
        if let Some(value) = value {
            self.mismatch(key.name, value, key.expects);
        }
        Self {
            reader: self.reader,
            table: None,
            path: path.into(),
            at: self.at,
        }
    }

    /// The tables of the array under a key, in order.
    pub(super) fn tables(&self, key: &Nested, keys: &Keys) -> Vec<Self> {
        let Some(value) = self.lookup(key.name) else {
            return Vec::new();
        };
        let Some(elements) = value.get_ref().as_array() else {
            self.mismatch(key.name, value, key.expects);
            return Vec::new();
        };
        let open = |element: &'a Spanned<DeValue<'a>>| {
            let at = element.span().start;
            let Some(table) = element.get_ref().as_table() else {
                self.mismatch(key.name, element, key.expects);
                return None;
            };
            Some(self.open(self.key(key.name), table, at, keys))
        };
        elements.iter().filter_map(open).collect()
    }

    /// The texts under `name` in the tables of the array under a key, for who refers to them; notes no problem.
    pub(super) fn peek(&self, key: &Nested, name: &str) -> Vec<String> {
        let array = self
            .lookup(key.name)
            .and_then(|value| value.get_ref().as_array());
        let texts = array
            .into_iter()
            .flatten()
            .filter_map(|element| element.get_ref().as_table()?.get(name)?.get_ref().as_str());
        texts
            .filter_map(|text| interpolate(text, self.reader.env, false).ok())
            .map(|found| found.text.to_string())
            .collect()
    }

    /// The tables under the names in a table (`[upstreams.NAME]`), in the order of the file.
    pub(super) fn named_tables(&self, key: &Nested, keys: &Keys) -> Vec<(Located<String>, Self)> {
        let Some(value) = self.lookup(key.name) else {
            return Vec::new();
        };
        let Some(names) = value.get_ref().as_table() else {
            self.mismatch(key.name, value, key.expects);
            return Vec::new();
        };
        let mut found: Vec<_> = names.iter().collect();
        found.sort_by_key(|(name, _)| name.span().start);
        let open = |(name, value): (&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)| {
            let path = format!("{}.{}", self.key(key.name), name.get_ref());
            let at = name.span().start;
            let Some(table) = value.get_ref().as_table() else {
                let found = type_name(value.get_ref());
                self.reader.problem(
                    value.span().start,
                    path,
                    format!("expected a table; found {found}"),
                );
                return None;
            };
            let name = Located {
                value: name.get_ref().to_string(),
                at,
                secret: false,
            };
            Some((name, self.open(path, table, value.span().start, keys)))
        };
        found.into_iter().filter_map(open).collect()
    }

    /// The entries of a table of names that the user chooses (`headers = { "x-a" = "b" }`), in the order of the file.
    pub(super) fn entries<K: Kind>(
        &self,
        key: &Nested,
        kind: &K,
    ) -> Vec<(Located<&'a str>, Located<K::Value>)> {
        let Some(value) = self.lookup(key.name) else {
            return Vec::new();
        };
        let Some(table) = value.get_ref().as_table() else {
            self.mismatch(key.name, value, key.expects);
            return Vec::new();
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let read = |(name, value): (&'a Spanned<Cow<'a, str>>, &Spanned<DeValue<'_>>)| {
            let path = format!("{}.{}", self.key(key.name), name.get_ref());
            let value = self.reader.value(&path, kind, value)?;
            let name: Located<&'a str> = Located {
                value: name.get_ref(),
                at: name.span().start,
                secret: false,
            };
            Some((name, value))
        };
        entries.into_iter().filter_map(read).collect()
    }

    /// Reads what is written at `name`; `None`: nothing is, or a problem was noted.
    fn written<K: Kind>(&self, name: &str, kind: &K) -> Option<Located<K::Value>> {
        self.lookup(name)
            .and_then(|value| self.reader.value(&self.key(name), kind, value))
    }

    /// A table below this one, with its keys checked.
    fn open(&self, path: String, table: &'a DeTable<'a>, at: usize, keys: &Keys) -> Self {
        let section = Self::new(self.reader, path, table, at);
        section.check_keys(keys);
        section
    }

    fn lookup(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(name)
    }

    fn mismatch(&self, name: &str, value: &Spanned<DeValue<'_>>, expects: &str) {
        let Range { start, .. } = value.span();
        let found = type_name(value.get_ref());
        self.problem_at(start, name, format!("expected {expects}; found {found}"));
    }

    /// The key's full name in messages.
    fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

/// Names and values come from the file and may hold anything: a problem stays one printable line.
fn one_line(text: String) -> String {
    if text.contains(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text
    }
}

/// The TOML type of a value, with its article.
fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
