//! An independent reading of RFC 9112, to be compared with the codec's: whole messages, no increments, no spans, no limits
//! but those that are asked for. Written from the RFC's grammar alone; must share no code with `gateway`.

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Not all of it is there.
    More,
    /// It breaks the named rule: whoever forwards it forwards something that others read differently.
    Broken(&'static str),
    /// It is a message.
    Whole(Box<Message>),
}

/// Names in lower case and trimmed values, in their order.
pub(crate) type FieldList = Vec<(Vec<u8>, Vec<u8>)>;

/// A message, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The start line's three parts.
    pub(crate) start: [Vec<u8>; 3],
    /// Names in lower case, trimmed values, in their order.
    pub(crate) fields: FieldList,
    pub(crate) body: Vec<u8>,
    /// The body came in chunks.
    pub(crate) chunked: bool,
    /// Where the next message begins.
    pub(crate) end: usize,
    /// Why a careful recipient may refuse it even so; `None`: it must not.
    pub(crate) doubt: Option<&'static str>,
}

impl Message {
    fn doubt(&mut self, reason: &'static str) {
        self.doubt.get_or_insert(reason);
    }

    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        let fields = self.fields.iter();
        fields
            .filter(|field| field.0 == name.as_bytes())
            .map(|field| &field.1[..])
            .collect()
    }
}

type Step<T> = Result<T, Reading>;

fn broken<T>(rule: &'static str) -> Step<T> {
    Err(Reading::Broken(rule))
}

pub(crate) fn is_token(text: &[u8]) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !text.is_empty()
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || special.contains(byte))
}

pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = text
        .iter()
        .position(|byte| !is_blank(byte))
        .unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| !is_blank(byte))
        .map_or(start, |at| at + 1);
    &text[start..end]
}

/// The next line without its CRLF, and where the one after it begins. A CR or LF by itself breaks any message.
fn line(data: &[u8], from: usize) -> Step<(&[u8], usize)> {
    for at in from..data.len() {
        match data[at] {
            b'\r' if data.get(at + 1) == Some(&b'\n') => return Ok((&data[from..at], at + 2)),
            b'\r' if at + 1 == data.len() => break,
            b'\r' => return broken("bare CR"),
            b'\n' => return broken("bare LF"),
            b'\t' | b' '..=b'~' | 0x80.. => {}
            _ => return broken("control"),
        }
    }
    Err(Reading::More)
}

/// Field lines up to the empty one.
fn fields(data: &[u8], mut from: usize) -> Step<(FieldList, usize)> {
    let mut fields = Vec::new();
    loop {
        let (text, next) = line(data, from)?;
        from = next;
        if text.is_empty() {
            return Ok((fields, from));
        }
        let Some(colon) = text.iter().position(|&byte| byte == b':') else {
            return broken("no colon");
        };
        // A fold, a blank before the colon and an empty name are none of them a token.
        if !is_token(&text[..colon]) {
            return broken("field name");
        }
        fields.push((
            text[..colon].to_ascii_lowercase(),
            trim(&text[colon + 1..]).to_vec(),
        ));
    }
}

/// The length of a body by digits; `None`: no number, or one beyond 2^63-1.
fn length(text: &[u8]) -> Option<usize> {
    let digits = str::from_utf8(text).ok()?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u128 = digits.parse().ok()?;
    (number <= i64::MAX as u128).then_some(usize::try_from(number).ok()?)
}

/// How the fields say that the body ends.
enum Frame {
    Nothing,
    Length(usize),
    Chunks,
}

fn frame(message: &mut Message, is_old: bool) -> Step<Frame> {
    let lengths: Vec<Vec<u8>> = message
        .values("content-length")
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect();
    let codings: Vec<Vec<u8>> = message
        .values("transfer-encoding")
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Frame::Nothing),
        ([one], []) => {
            if one.len() > 20 {
                message.doubt("many leading zeros");
            }
            length(one).map_or_else(
                || broken("Content-Length"),
                |length| Ok(Frame::Length(length)),
            )
        }
        ([], [one]) if one.eq_ignore_ascii_case(b"chunked") && !is_old => Ok(Frame::Chunks),
        _ => broken("framing"),
    }
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`; true: with a blank, which nobody should send.
fn extensions(text: &[u8]) -> Option<bool> {
    let mut rest = text;
    let mut blank = false;
    let mut skip = |rest: &mut &[u8]| {
        while let [b' ' | b'\t', tail @ ..] = *rest {
            *rest = tail;
            blank = true;
        }
    };
    let token = |rest: &mut &[u8]| {
        let end = rest
            .iter()
            .position(|&byte| !is_token(&[byte]))
            .unwrap_or(rest.len());
        *rest = &rest[end..];
        end > 0
    };
    while !rest.is_empty() {
        skip(&mut rest);
        rest = rest.strip_prefix(b";")?;
        skip(&mut rest);
        if !token(&mut rest) {
            return None;
        }
        let before = rest;
        skip(&mut rest);
        let Some(after) = rest.strip_prefix(b"=") else {
            rest = before;
            continue;
        };
        rest = after;
        skip(&mut rest);
        if let Some(mut quoted) = rest.strip_prefix(b"\"") {
            loop {
                match quoted {
                    [b'"', tail @ ..] => break rest = tail,
                    [b'\\', _, tail @ ..] => quoted = tail,
                    [b'\\'] | [] => return None,
                    [_, tail @ ..] => quoted = tail,
                }
            }
        } else if !token(&mut rest) {
            return None;
        }
    }
    Some(blank)
}

fn chunks(data: &[u8], mut from: usize, message: &mut Message) -> Step<()> {
    message.chunked = true;
    loop {
        let (text, next) = line(data, from)?;
        let digits = text
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let (size, rest) = text.split_at(digits);
        let size = str::from_utf8(size)
            .ok()
            .filter(|size| (1..=16).contains(&size.len()))
            .and_then(|size| u64::from_str_radix(size, 16).ok())
            .filter(|&size| size <= i64::MAX as u64);
        let Some(size) = size else {
            return broken("chunk size");
        };
        match extensions(rest) {
            None => return broken("chunk extension"),
            Some(true) => message.doubt("blank in a chunk extension"),
            Some(false) => {}
        }
        if rest.len() > 200 {
            message.doubt("long chunk extension");
        }
        from = next;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).map_err(|_| Reading::More)?;
        let Some(data_end) = from.checked_add(size).filter(|&end| end <= data.len()) else {
            return Err(Reading::More);
        };
        message.body.extend_from_slice(&data[from..data_end]);
        match data.get(data_end..).unwrap_or_default() {
            [] | [b'\r'] => return Err(Reading::More),
            [b'\r', b'\n', ..] => from = data_end + 2,
            _ => return broken("end of chunk data"),
        }
    }
    let (trailers, next) = fields(data, from)?;
    if trailers
        .iter()
        .any(|(name, value)| name.len() + value.len() > 3000)
        || next - from > 15_000
    {
        message.doubt("large trailers");
    }
    message.end = next;
    Ok(())
}

/// Reads one request at the start of `data`.
pub(crate) fn request(data: &[u8]) -> Reading {
    read_request(data).unwrap_or_else(|other| other)
}

fn read_request(data: &[u8]) -> Step<Reading> {
    let mut message = Message::default();
    let mut from = 0;
    let mut blanks = 0;
    let start = loop {
        let (text, next) = line(data, from)?;
        from = next;
        if !text.is_empty() {
            break text;
        }
        blanks += 1;
    };
    if blanks > 2 {
        return broken("empty lines");
    }
    let parts: Vec<&[u8]> = start.split(|&byte| byte == b' ').collect();
    let [method, target, version] = parts[..] else {
        return broken("request line");
    };
    if !is_token(method) || method == b"CONNECT" || method == b"TRACE" {
        return broken("method");
    }
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return broken("version"),
    };
    message.start = [method.to_vec(), target.to_vec(), version.to_vec()];
    (message.fields, from) = fields(data, from)?;
    check_target(&mut message, method, target)?;
    check_host(&mut message, is_old)?;
    check_rest(&mut message, method);
    match frame(&mut message, is_old)? {
        Frame::Nothing => message.end = from,
        Frame::Length(length) => {
            let end = from.checked_add(length).filter(|&end| end <= data.len());
            message.end = end.ok_or(Reading::More)?;
            message.body = data[from..message.end].to_vec();
        }
        Frame::Chunks => chunks(data, from, &mut message)?,
    }
    Ok(Reading::Whole(Box::new(message)))
}

fn check_target(message: &mut Message, method: &[u8], target: &[u8]) -> Step<()> {
    if target.is_empty() || target.iter().any(|byte| !byte.is_ascii_graphic()) {
        message.doubt("octets of the target");
    }
    if target.contains(&b'#') || target.contains(&b'\t') || target.is_empty() {
        return broken("target");
    }
    match target {
        b"*" if method == b"OPTIONS" => {}
        [b'/', ..] => {
            let (path, _query) = target.split_at(
                target
                    .iter()
                    .position(|&byte| byte == b'?')
                    .unwrap_or(target.len()),
            );
            let plain =
                |byte: &u8| byte.is_ascii_alphanumeric() || b"-_~/:@!$&'()*+,=".contains(byte);
            if !path.iter().all(plain) {
                message.doubt("a path that has rules of its own");
            }
        }
        _ => {
            let lower = target.to_ascii_lowercase();
            if !lower.starts_with(b"http://") && !lower.starts_with(b"https://") {
                return broken("target");
            }
            message.doubt("absolute form");
        }
    }
    Ok(())
}

fn check_host(message: &mut Message, is_old: bool) -> Step<()> {
    let hosts: Vec<Vec<u8>> = message
        .values("host")
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect();
    let host = match &hosts[..] {
        [] if is_old => return Ok(()),
        [one] => one,
        _ => return broken("Host"),
    };
    if host
        .iter()
        .any(|byte| !byte.is_ascii_graphic() || b"/?#@\\,<>\"{}|^`".contains(byte))
    {
        return broken("Host");
    }
    let text = str::from_utf8(host).unwrap_or_default();
    let (name, port) = text.split_once(':').unwrap_or((text, "80"));
    let plain = !name.is_empty()
        && name.len() < 250
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_~!$&'()*+;=".contains(&byte))
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.len() <= 5
        && port.parse::<u16>().is_ok();
    if !plain {
        message.doubt("an unusual host");
    }
    Ok(())
}

/// Fields that a gateway may refuse for what they say.
fn check_rest(message: &mut Message, method: &[u8]) {
    let protected = [
        "authorization",
        "content-length",
        "cookie",
        "forwarded",
        "host",
        "transfer-encoding",
        "x-real-ip",
        "x-request-id",
    ];
    let mut options = 0;
    let mut doubt = None;
    for value in message.values("connection") {
        for option in value.split(|&byte| byte == b',').map(trim) {
            options += 1;
            let name = String::from_utf8_lossy(option).to_ascii_lowercase();
            if !option.is_empty() && !is_token(option)
                || protected.contains(&name.as_str())
                || name.starts_with("x-forwarded-")
            {
                doubt = Some("Connection");
            }
        }
    }
    if options > 64 {
        doubt = Some("a long Connection");
    }
    if message
        .values("expect")
        .iter()
        .any(|value| !value.eq_ignore_ascii_case(b"100-continue"))
    {
        doubt = Some("Expect");
    }
    if method == b"OPTIONS" && !message.values("max-forwards").is_empty() {
        doubt = Some("Max-Forwards");
    }
    if let Some(doubt) = doubt {
        message.doubt(doubt);
    }
}

/// Which request fields go on to the next server, by name and value: not those of the hop, of the framing, of the client's
/// identity, and none whose name has `_`.
pub(crate) fn forwarded(message: &Message) -> FieldList {
    let hop = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "http2-settings",
        "te",
        "trailer",
        "upgrade",
        "host",
        "content-length",
        "transfer-encoding",
        "expect",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "forwarded",
        "x-real-ip",
        "x-request-id",
        "via",
    ];
    let mut named: Vec<Vec<u8>> = Vec::new();
    for value in message.values("connection") {
        let options = value.split(|&byte| byte == b',');
        named.extend(options.map(|option| trim(option).to_ascii_lowercase()));
    }
    let is_kept = |field: &&(Vec<u8>, Vec<u8>)| {
        let name = &field.0;
        !hop.iter().any(|hop| hop.as_bytes() == name)
            && !named.contains(name)
            && !name.contains(&b'_')
    };
    message.fields.iter().filter(is_kept).cloned().collect()
}

/// How many octets of `data`, which is all that an upstream sends to `method` before it closes, are the head, and the body.
/// `None`: no response, or one that two readers would end differently.
pub(crate) fn response(data: &[u8], method: &str) -> Option<Message> {
    let mut message = Message::default();
    let (start, from) = line(data, 0).ok()?;
    let mut parts = start.splitn(3, |&byte| byte == b' ');
    let (version, status) = (parts.next()?, parts.next()?);
    let is_old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return None,
    };
    if status.len() != 3 || !(b'1'..=b'5').contains(&status[0]) {
        return None;
    }
    let number: u16 = str::from_utf8(status).ok()?.parse().ok()?;
    message.start = [
        version.to_vec(),
        status.to_vec(),
        parts.next().unwrap_or_default().to_vec(),
    ];
    let from = {
        let (list, next) = fields(data, from).ok()?;
        message.fields = list;
        next
    };
    message.end = from;
    let frame = frame(&mut message, is_old).ok()?;
    if method == "HEAD" || number < 200 || matches!(number, 204 | 304) {
        return Some(message);
    }
    match frame {
        Frame::Nothing => message.end = data.len(),
        Frame::Length(length) => message.end = from.checked_add(length)?,
        Frame::Chunks => chunks(data, from, &mut message).ok()?,
    }
    if message.end > data.len() {
        return None;
    }
    if !message.chunked {
        message.body = data[from..message.end].to_vec();
    }
    Some(message)
}
