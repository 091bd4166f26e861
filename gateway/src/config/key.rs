//! One row per key: name, kind with its bounds, default, text. The reader, the errors and the reference page
//! (`docs/configuration.md`) all take them from here, so that they cannot disagree.

use super::kind::Kind;

/// A key with a default.
pub(super) struct Key<K: Kind> {
    /// As written in the file.
    pub name: &'static str,
    /// What values it takes.
    pub kind: K,
    /// The value where the key is absent; within the bounds of `kind`.
    pub default: K::Value,
    /// What it does and what it costs, for the reference page.
    pub text: &'static str,
}

/// A key that must be written.
pub(super) struct Required<K> {
    /// As written in the file.
    pub name: &'static str,
    /// What values it takes.
    pub kind: K,
    /// What it does, for the reference page.
    pub text: &'static str,
}

/// A key that may be absent without a value taking its place.
pub(super) struct Optional<K> {
    /// As written in the file.
    pub name: &'static str,
    /// What values it takes.
    pub kind: K,
    /// What its absence means, for the reference page.
    pub absent: &'static str,
    /// What it does, for the reference page.
    pub text: &'static str,
}

/// A key that holds an array of values; empty where absent.
pub(super) struct List<K> {
    /// As written in the file.
    pub name: &'static str,
    /// What values its elements take.
    pub item: K,
    /// What it does, for the reference page.
    pub text: &'static str,
}

/// A key that holds one value or a short array of them.
pub(super) struct OneOrMore<K: Kind> {
    /// As written in the file.
    pub name: &'static str,
    /// What values it takes.
    pub item: K,
    /// Most values.
    pub max: usize,
    /// The one value where the key is absent; `None`: it must be written.
    pub default: Option<K::Value>,
    /// What it does, for the reference page.
    pub text: &'static str,
}

/// A key that holds a table, or tables, with keys of their own.
pub(super) struct Nested {
    /// As written in the file.
    pub name: &'static str,
    /// What it holds, such as `a table`.
    pub expects: &'static str,
    /// What its absence means, for the reference page.
    pub absent: &'static str,
    /// What it is for, for the reference page.
    pub text: &'static str,
}

/// What every kind of row shows of itself.
pub(super) trait Row: Sync {
    /// As written in the file.
    fn name(&self) -> &'static str;
    /// What values it takes, with bounds.
    fn expects(&self) -> String;
    /// The default as written in a file, or what absence means.
    fn default(&self) -> String;
    /// What it does and what it costs.
    fn text(&self) -> &'static str;
}

/// The keys of one section.
pub(super) struct Keys {
    /// The header as written in a file, such as `[[listeners]]`.
    pub header: &'static str,
    /// What the section is for.
    pub text: &'static str,
    /// Its keys in the order of the reference page.
    pub rows: &'static [&'static dyn Row],
    /// Keys that users of other gateways will try and this version does not have.
    pub unsupported: &'static [&'static str],
}

impl<K: Kind> Row for Key<K>
where
    K::Value: Sync,
{
    fn name(&self) -> &'static str {
        self.name
    }
    fn expects(&self) -> String {
        self.kind.expects()
    }
    fn default(&self) -> String {
        format!("`{}`", self.kind.show(&self.default))
    }
    fn text(&self) -> &'static str {
        self.text
    }
}

impl<K: Kind> Row for Required<K> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn expects(&self) -> String {
        self.kind.expects()
    }
    fn default(&self) -> String {
        "required".into()
    }
    fn text(&self) -> &'static str {
        self.text
    }
}

impl<K: Kind> Row for Optional<K> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn expects(&self) -> String {
        self.kind.expects()
    }
    fn default(&self) -> String {
        self.absent.into()
    }
    fn text(&self) -> &'static str {
        self.text
    }
}

impl<K: Kind> Row for List<K> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn expects(&self) -> String {
        format!("an array; each element {}", self.item.expects())
    }
    fn default(&self) -> String {
        "`[]`".into()
    }
    fn text(&self) -> &'static str {
        self.text
    }
}

impl<K: Kind> Row for OneOrMore<K>
where
    K::Value: Sync,
{
    fn name(&self) -> &'static str {
        self.name
    }
    fn expects(&self) -> String {
        format!("{}, or an array of up to {}", self.item.expects(), self.max)
    }
    fn default(&self) -> String {
        self.default.as_ref().map_or_else(
            || "required".into(),
            |value| format!("`{}`", self.item.show(value)),
        )
    }
    fn text(&self) -> &'static str {
        self.text
    }
}

impl Row for Nested {
    fn name(&self) -> &'static str {
        self.name
    }
    fn expects(&self) -> String {
        self.expects.into()
    }
    fn default(&self) -> String {
        self.absent.into()
    }
    fn text(&self) -> &'static str {
        self.text
    }
}
