//! Spans into a head, and the table of its fields. Must not judge values.

use httparse::Header;

use super::ascii::is_same_name;
use super::block::{BLOCK, Block, first};

/// Most fields that a head can have, whatever the configured limit; bounds the parser's stack.
pub const FIELDS_CAP: usize = 256;

/// A range of octets in a head; borrows nothing, so it may live across an await.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// `part`'s place in `head`; `part` must be a slice of `head`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a head has far fewer octets than 2^32; of a place that is none there is nothing to read"
    )]
    #[inline]
    pub(super) fn locate(head: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(head.as_ptr().addr()) as u32;
        Self {
            start,
            end: start.wrapping_add(part.len() as u32),
        }
    }

    pub(super) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end, "a span runs forward");
        let narrow = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        Self {
            start: narrow(start),
            end: narrow(end),
        }
    }

    /// The octets; empty where the span is not within `head`.
    #[must_use]
    pub fn of(self, head: &[u8]) -> &[u8] {
        head.get(self.start()..self.end()).unwrap_or_default()
    }

    /// Where it begins.
    #[must_use]
    pub const fn start(self) -> usize {
        self.start as usize
    }

    /// Where it ends, exclusive.
    #[must_use]
    pub const fn end(self) -> usize {
        self.end as usize
    }

    /// Octets in it.
    #[must_use]
    pub const fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether it holds nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// What a field is to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `Host`.
    Host,
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Connection`.
    Connection,
    /// `Keep-Alive`, `Proxy-Connection`, `Proxy-Authenticate`, `Proxy-Authorization` or `HTTP2-Settings`: for this hop
    /// only, and of no use here.
    HopByHop,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Upgrade`.
    Upgrade,
    /// `Expect`.
    Expect,
    /// `Max-Forwards`.
    MaxForwards,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `X-Forwarded-Proto`.
    XForwardedProto,
    /// `X-Forwarded-Host`.
    XForwardedHost,
    /// `Forwarded` or `X-Real-IP`: says who the client is, believed only from a trusted peer.
    ClientIdentity,
    /// `X-Request-Id`.
    XRequestId,
    /// `X-Consumer`, `X-Consumer-Groups` or `X-Consumer-Plan`: says who the caller is, which only the gateway may.
    Consumer,
    /// `Date`.
    Date,
    /// A name with `_`, which many back ends read as `-`.
    Underscore,
    /// Anything else.
    Other,
}

/// How many kinds there are.
const KINDS: usize = FieldKind::Other as usize + 1;

const fn bit(kind: FieldKind) -> u32 {
    1 << kind as u32
}

/// A set of kinds.
#[derive(Clone, Copy)]
pub(super) struct Kinds(u32);

impl Kinds {
    pub(super) const fn of(kinds: &[FieldKind]) -> Self {
        let mut bits = 0;
        let mut rest = kinds;
        while let [kind, tail @ ..] = rest {
            bits |= bit(*kind);
            rest = tail;
        }
        Self(bits)
    }

    /// This set, and `kind` where `is_in`.
    pub(super) const fn and(self, kind: FieldKind, is_in: bool) -> Self {
        Self(self.0 | (is_in as u32) << kind as u32)
    }

    /// Whether `kind` is in it.
    pub(super) const fn holds(self, kind: FieldKind) -> bool {
        self.0 & bit(kind) != 0
    }
}

/// A field line.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name as sent.
    pub name: Span,
    /// Its value without white space at the ends.
    pub value: Span,
    /// What it is to the gateway.
    pub kind: FieldKind,
    /// Whether the message's `Connection` field names it.
    pub named_by_connection: bool,
    /// Whether it is kept from the upstream: a credential that was for the gateway.
    pub withheld: bool,
}

/// The fields of one head in their order; reused from head to head, it allocates only while it grows.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    /// A bit for each [`FieldKind`] that is there: most heads have few, and what is not there need not be looked for.
    kinds: u32,
    /// A bit for each that is there more than once.
    repeated: u32,
    /// The index of the last field of each kind that is there.
    last: [u8; KINDS],
}

impl Fields {
    /// An empty table; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            list: Vec::new(),
            kinds: 0,
            repeated: 0,
            last: [0; KINDS],
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.list.iter()
    }

    /// Values of the fields called `name` (without case), in their order. Compares every name: linear in the fields.
    pub fn values<'a>(&'a self, head: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.list
            .iter()
            .filter(move |field| is_same_name(field.name.of(head), name))
            .map(move |field| field.value.of(head))
    }

    /// Takes over what `httparse` found in `head`.
    pub(super) fn fill(&mut self, head: &[u8], parsed: &[Header<'_>]) {
        self.list.clear();
        let (mut kinds, mut repeated) = (0, 0);
        let last = &mut self.last;
        let fields = parsed.iter().enumerate().map(|(index, header)| {
            let name = Span::locate(head, header.name.as_bytes());
            let kind = classify_at(head, header.name.as_bytes(), name.start());
            repeated |= kinds & bit(kind);
            kinds |= bit(kind);
            if let Some(last) = last.get_mut(kind as usize) {
                *last = narrow(index);
            }
            Field {
                name,
                value: Span::locate(head, header.value),
                kind,
                named_by_connection: false,
                withheld: false,
            }
        });
        self.list.extend(fields);
        self.kinds = kinds;
        self.repeated = repeated;
    }

    /// Whether there is a field of this kind. Looks at no field.
    pub(super) const fn has(&self, kind: FieldKind) -> bool {
        self.kinds & bit(kind) != 0
    }

    /// The one field of this kind; `None` also where there are several. Looks at no other field.
    pub(super) fn only(&self, kind: FieldKind) -> Option<&Field> {
        if (self.kinds & !self.repeated) & bit(kind) == 0 {
            return None;
        }
        let index = self.last.get(kind as usize)?;
        self.list.get(usize::from(*index))
    }

    /// Whether there is a field of one of `kinds`. Looks at no field.
    pub(super) fn has_any(&self, kinds: &[FieldKind]) -> bool {
        self.kinds & kinds.iter().fold(0, |bits, &kind| bits | bit(kind)) != 0
    }

    /// The value of the field at `index`, if that is of `kind`.
    pub(super) fn value_at(&self, index: usize, kind: FieldKind) -> Option<Span> {
        self.list
            .get(index)
            .filter(|field| field.kind == kind)
            .map(|field| field.value)
    }

    /// Keeps the fields called `name` from the upstream.
    pub(in crate::data) fn withhold(&mut self, head: &[u8], name: &[u8]) {
        for field in &mut self.list {
            if is_same_name(field.name.of(head), name) {
                field.withheld = true;
            }
        }
    }

    /// Keeps the fields called `name`, in lower case, from the upstream, also where `_` is written for a `-` of it.
    pub(in crate::data) fn withhold_posing(&mut self, head: &[u8], name: &[u8]) {
        let same = |written: &u8, byte: &u8| {
            let lower = written.to_ascii_lowercase();
            lower == *byte || lower == b'_' && *byte == b'-'
        };
        for field in &mut self.list {
            let written = field.name.of(head);
            let is_it = || {
                written
                    .iter()
                    .zip(name)
                    .all(|(one, other)| same(one, other))
            };
            if written.len() == name.len() && is_it() {
                field.withheld = true;
            }
        }
    }

    /// Marks the fields called `name` as named by `Connection`.
    pub(super) fn mark_named(&mut self, head: &[u8], name: &[u8]) {
        for field in &mut self.list {
            if is_same_name(field.name.of(head), name) {
                field.named_by_connection = true;
            }
        }
    }
}

/// The index of a field: there are at most [`FIELDS_CAP`].
#[expect(
    clippy::cast_possible_truncation,
    reason = "bounded by the parser's slots"
)]
const fn narrow(index: usize) -> u8 {
    const { assert!(FIELDS_CAP == u8::MAX as usize + 1) }
    index as u8
}

/// The kind of a field name.
pub(super) fn classify(name: &[u8]) -> FieldKind {
    classify_at(name, name, 0)
}

/// The kind of a name that begins at `start` of `head`: its length and its last octet leave one name of a kind that it can be.
#[inline]
fn classify_at(head: &[u8], name: &[u8], start: usize) -> FieldKind {
    let block = Block::at(head, start);
    let last = name.last().copied().unwrap_or_default();
    let known = PLACES
        .get(place(name.len(), last))
        .copied()
        .unwrap_or(NO_NAME);
    if let Some(known) = NAMES.get(usize::from(known))
        && known.length == name.len()
        && block.small().same(&known.begin) | !first(name.len()) == !0
        && (name.len() <= BLOCK
            || name
                .get(BLOCK..)
                .is_some_and(|end| is_same_name(end, known.end)))
    {
        return known.kind;
    }
    let underscores = block.equal(b'_') & first(name.len());
    if underscores != 0 || name.get(BLOCK..).is_some_and(|end| end.contains(&b'_')) {
        FieldKind::Underscore
    } else {
        FieldKind::Other
    }
}

/// A name that is of a kind, in lower case.
struct Known {
    length: usize,
    /// As far as a block reaches, and zeros.
    begin: [u8; BLOCK],
    /// The rest.
    end: &'static [u8],
    kind: FieldKind,
}

const fn known(name: &'static [u8], kind: FieldKind) -> Known {
    let mut begin = [0; BLOCK];
    let (front, end) = name.split_at(if name.len() < BLOCK {
        name.len()
    } else {
        BLOCK
    });
    let (slots, _) = begin.split_at_mut(front.len());
    slots.copy_from_slice(front);
    Known {
        length: name.len(),
        begin,
        end,
        kind,
    }
}

/// All names that are of a kind.
static NAMES: [Known; 24] = [
    known(b"te", FieldKind::Te),
    known(b"host", FieldKind::Host),
    known(b"date", FieldKind::Date),
    known(b"expect", FieldKind::Expect),
    known(b"upgrade", FieldKind::Upgrade),
    known(b"trailer", FieldKind::Trailer),
    known(b"forwarded", FieldKind::ClientIdentity),
    known(b"x-real-ip", FieldKind::ClientIdentity),
    known(b"connection", FieldKind::Connection),
    known(b"keep-alive", FieldKind::HopByHop),
    known(b"x-consumer", FieldKind::Consumer),
    known(b"x-request-id", FieldKind::XRequestId),
    known(b"max-forwards", FieldKind::MaxForwards),
    known(b"content-length", FieldKind::ContentLength),
    known(b"http2-settings", FieldKind::HopByHop),
    known(b"x-forwarded-for", FieldKind::XForwardedFor),
    known(b"x-consumer-plan", FieldKind::Consumer),
    known(b"x-forwarded-host", FieldKind::XForwardedHost),
    known(b"proxy-connection", FieldKind::HopByHop),
    known(b"transfer-encoding", FieldKind::TransferEncoding),
    known(b"x-forwarded-proto", FieldKind::XForwardedProto),
    known(b"x-consumer-groups", FieldKind::Consumer),
    known(b"proxy-authenticate", FieldKind::HopByHop),
    known(b"proxy-authorization", FieldKind::HopByHop),
];

/// Behind all of [`NAMES`].
const NO_NAME: u8 = 255;

/// Where a name of this length and with this last octet is found in [`PLACES`]. No two of [`NAMES`] have one place: that is
/// checked when they are laid out.
const fn place(length: usize, last: u8) -> usize {
    (length.wrapping_mul(3)).wrapping_add(((last | 0x20) >> 3) as usize) & 63
}

/// The index in [`NAMES`] of the one name that has the place, if one has.
#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "computed when compiling"
)]
static PLACES: [u8; 64] = {
    let mut places = [NO_NAME; 64];
    let mut index = 0;
    while index < NAMES.len() {
        let Known {
            length, begin, end, ..
        } = &NAMES[index];
        let last = match end.last() {
            Some(last) => *last,
            None => begin[*length - 1],
        };
        let slot = &mut places[place(*length, last)];
        assert!(*slot == NO_NAME, "two names at one place");
        *slot = index as u8;
        index += 1;
    }
    places
};

/// For tests of how Connection is read: requests and responses do it alike, and both have a way for what it mostly says.
#[cfg(test)]
pub(super) mod connections {
    use proptest::prelude::*;

    use super::Fields;

    /// Field lines, most of them Connection.
    pub(in super::super) fn lines() -> impl Strategy<Value = String> {
        let option = prop_oneof![
            4 => Just("keep-alive"), 4 => Just("Close"), 1 => Just("KEEP-ALIVE"), 1 => Just("close, keep-alive"),
            1 => Just("X-A"), 1 => Just("upgrade"), 1 => Just(""), 1 => Just("host"), 1 => Just("@"), 1 => Just("keep-alive,X-A"),
        ];
        let line = prop_oneof![
            3 => option.prop_map(|value| format!("Connection: {value}\r\n")),
            1 => Just("Keep-Alive: timeout=5\r\n".to_owned()),
            1 => Just("X-A: 1\r\n".to_owned()),
        ];
        proptest::collection::vec(line, 0..4).prop_map(|lines| lines.concat() + "\r\n")
    }

    /// What each way makes of the lines, and which fields it marks.
    pub(in super::super) fn read_by<T>(
        lines: &str,
        ways: [fn(&[u8], &mut Fields) -> T; 2],
    ) -> [(T, Vec<bool>); 2] {
        let mut slots = [httparse::EMPTY_HEADER; 4];
        let head = lines.as_bytes();
        let parsed = httparse::parse_headers(head, &mut slots);
        let parsed = parsed.unwrap().unwrap().1;
        ways.map(|way| {
            let mut fields = Fields::new();
            fields.fill(head, parsed);
            let read = way(head, &mut fields);
            let named = fields.iter().map(|field| field.named_by_connection);
            (read, named.collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The names again, as they are written.
    const WRITTEN: [(&str, FieldKind); 24] = [
        ("TE", FieldKind::Te),
        ("Host", FieldKind::Host),
        ("Date", FieldKind::Date),
        ("Expect", FieldKind::Expect),
        ("Upgrade", FieldKind::Upgrade),
        ("Trailer", FieldKind::Trailer),
        ("Forwarded", FieldKind::ClientIdentity),
        ("X-Real-IP", FieldKind::ClientIdentity),
        ("Connection", FieldKind::Connection),
        ("Keep-Alive", FieldKind::HopByHop),
        ("X-Consumer", FieldKind::Consumer),
        ("X-Request-Id", FieldKind::XRequestId),
        ("Max-Forwards", FieldKind::MaxForwards),
        ("Content-Length", FieldKind::ContentLength),
        ("HTTP2-Settings", FieldKind::HopByHop),
        ("X-Forwarded-For", FieldKind::XForwardedFor),
        ("X-Consumer-Plan", FieldKind::Consumer),
        ("X-Forwarded-Host", FieldKind::XForwardedHost),
        ("Proxy-Connection", FieldKind::HopByHop),
        ("Transfer-Encoding", FieldKind::TransferEncoding),
        ("X-Forwarded-Proto", FieldKind::XForwardedProto),
        ("X-Consumer-Groups", FieldKind::Consumer),
        ("Proxy-Authenticate", FieldKind::HopByHop),
        ("Proxy-Authorization", FieldKind::HopByHop),
    ];

    /// The kind by a look at each name.
    fn plain_kind(name: &[u8]) -> FieldKind {
        let mut known = WRITTEN.iter();
        match known.find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())) {
            Some((_, kind)) => *kind,
            None if name.contains(&b'_') => FieldKind::Underscore,
            None => FieldKind::Other,
        }
    }

    /// As in a head, and alone.
    fn check_kind(name: &[u8]) {
        let head = [b"_Host_", name, b": _value_\r\n\r\n"].concat();
        let kind = classify_at(&head, name, 6);
        assert_eq!(kind, plain_kind(name), "{}", name.escape_ascii());
        assert_eq!(classify(name), kind, "{}", name.escape_ascii());
    }

    #[test]
    fn a_name_of_a_kind_is_told_from_all_that_differ_in_one_octet() {
        for (name, kind) in WRITTEN {
            for name in [
                name.to_owned(),
                name.to_ascii_lowercase(),
                name.to_ascii_uppercase(),
            ] {
                assert_eq!(classify(name.as_bytes()), kind);
                for at in 0..name.len() {
                    for byte in 0..=255 {
                        let mut other = name.clone().into_bytes();
                        other[at] = byte;
                        check_kind(&other);
                    }
                }
                check_kind(&name.as_bytes()[1..]);
                check_kind(&[b"x", name.as_bytes()].concat());
                check_kind(&[name.as_bytes(), b"x"].concat());
            }
        }
    }

    proptest! {
        #[test]
        fn any_name_is_of_the_kind_that_a_look_at_each_says(
            name in prop_oneof!["[A-Za-z_!#-]{0,40}".prop_map(String::into_bytes), proptest::collection::vec(any::<u8>(), 0..40)],
        ) {
            check_kind(&name);
        }
    }

    #[test]
    fn the_one_field_of_a_kind_is_found_and_none_of_several() {
        let mut slots = [httparse::EMPTY_HEADER; 8];
        let head = b"Date: 1\r\nHost: a\r\nX: 1\r\nHost: b\r\nTE: 2\r\nY: 3\r\n\r\n";
        let parsed = httparse::parse_headers(head, &mut slots)
            .unwrap()
            .unwrap()
            .1;
        let mut fields = Fields::new();
        for (parsed, host) in [(parsed, None), (&parsed[..3], Some(&b"a"[..]))] {
            fields.fill(head, parsed);
            let value = |kind| fields.only(kind).map(|field| field.value.of(head));
            assert_eq!(value(FieldKind::Host), host);
            assert_eq!(value(FieldKind::Date), Some(&b"1"[..]));
            assert_eq!(
                value(FieldKind::Te),
                (parsed.len() > 3).then_some(&b"2"[..])
            );
            assert_eq!(value(FieldKind::Expect), None);
        }
    }
}
