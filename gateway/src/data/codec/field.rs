//! Spans into a head, and the table of its fields. Must not judge values.

use httparse::Header;

use super::ascii::is_same_name;

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
    pub(super) fn locate(head: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        Self::new(start, start.wrapping_add(part.len()))
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

const fn bit(kind: FieldKind) -> u32 {
    1 << kind as u32
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
}

impl Fields {
    /// An empty table; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            list: Vec::new(),
            kinds: 0,
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
        let mut kinds = 0;
        self.list.extend(parsed.iter().map(|header| {
            let kind = classify(header.name.as_bytes());
            kinds |= bit(kind);
            Field {
                name: Span::locate(head, header.name.as_bytes()),
                value: Span::locate(head, header.value),
                kind,
                named_by_connection: false,
                withheld: false,
            }
        }));
        self.kinds = kinds;
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

/// The kind of a field name: one look at its length, then at most a few comparisons.
pub(super) fn classify(name: &[u8]) -> FieldKind {
    let candidates: &[(&[u8], FieldKind)] = match name.len() {
        2 => &[(b"te", FieldKind::Te)],
        4 => &[(b"host", FieldKind::Host), (b"date", FieldKind::Date)],
        6 => &[(b"expect", FieldKind::Expect)],
        7 => &[
            (b"upgrade", FieldKind::Upgrade),
            (b"trailer", FieldKind::Trailer),
        ],
        9 => &[
            (b"forwarded", FieldKind::ClientIdentity),
            (b"x-real-ip", FieldKind::ClientIdentity),
        ],
        10 => &[
            (b"connection", FieldKind::Connection),
            (b"keep-alive", FieldKind::HopByHop),
            (b"x-consumer", FieldKind::Consumer),
        ],
        12 => &[
            (b"x-request-id", FieldKind::XRequestId),
            (b"max-forwards", FieldKind::MaxForwards),
        ],
        14 => &[
            (b"content-length", FieldKind::ContentLength),
            (b"http2-settings", FieldKind::HopByHop),
        ],
        15 => &[
            (b"x-forwarded-for", FieldKind::XForwardedFor),
            (b"x-consumer-plan", FieldKind::Consumer),
        ],
        16 => &[
            (b"x-forwarded-host", FieldKind::XForwardedHost),
            (b"proxy-connection", FieldKind::HopByHop),
        ],
        17 => &[
            (b"transfer-encoding", FieldKind::TransferEncoding),
            (b"x-forwarded-proto", FieldKind::XForwardedProto),
            (b"x-consumer-groups", FieldKind::Consumer),
        ],
        18 => &[(b"proxy-authenticate", FieldKind::HopByHop)],
        19 => &[(b"proxy-authorization", FieldKind::HopByHop)],
        _ => &[],
    };
    let first = name.first().map_or(0, u8::to_ascii_lowercase);
    for (known, kind) in candidates {
        // One octet tells most names apart.
        if known.first() == Some(&first) && is_same_name(name, known) {
            return *kind;
        }
    }
    if name.contains(&b'_') {
        FieldKind::Underscore
    } else {
        FieldKind::Other
    }
}
