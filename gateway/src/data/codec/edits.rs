//! What is changed of the fields of a head that is written again.

/// Lines to add and fields to leave out.
#[derive(Clone, Copy, Debug)]
pub struct Edits<'a> {
    /// Whole field lines, each with its CRLF: valid, and none that frames a message.
    pub lines: &'a [u8],
    /// Names in lower case and with `-` for `_`: back ends fold the two, so that leaving out one must leave out both.
    pub removed: &'a [Box<[u8]>],
}

impl Edits<'_> {
    /// No change.
    pub const NONE: Edits<'static> = Edits {
        lines: b"",
        removed: &[],
    };

    /// Whether the field of this name is left out. Costs one branch where none is.
    #[inline]
    pub(in crate::data) fn removes(&self, name: &[u8]) -> bool {
        !self.removed.is_empty() && self.is_listed(name)
    }

    #[inline(never)]
    fn is_listed(&self, name: &[u8]) -> bool {
        let fold = |byte: &u8| match byte {
            b'_' => b'-',
            byte => byte.to_ascii_lowercase(),
        };
        self.removed.iter().any(|removed| {
            removed.len() == name.len() && name.iter().map(fold).eq(removed.iter().copied())
        })
    }
}
