//! A request with places that differ from one to the next: `${counter}`, `${random}`, `${key}`, `${key_ip}`.

use runtime::Buf;

use crate::keys::Key;
use crate::nearest::did_you_mean;

/// The values of one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Values {
    /// Its number on its thread.
    pub(crate) counter: u64,
    pub(crate) random: u64,
    pub(crate) key: Key,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Counter,
    Random,
    Key,
    KeyAddress,
    /// The length of the body, which may differ too.
    BodyLength,
}

/// The bytes of a request, with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    head: Vec<Piece>,
    body: Vec<Piece>,
}

/// A decimal number of 64 bits or an IPv4 address.
const VALUE_BYTES_MAX: usize = 20;

impl Template {
    /// Reads the places in the parts of a request. `length_after` is the part of the head behind which the body's length
    /// belongs: the head is `before`, the length, `after` if it is given, else `before` alone.
    ///
    /// # Errors
    ///
    /// A place that is not known.
    pub(crate) fn parse(before: &[u8], after: Option<&[u8]>, body: &[u8]) -> Result<Self, String> {
        let mut head = pieces(before)?;
        let body = pieces(body)?;
        if let Some(after) = after {
            head.push(Piece::BodyLength);
            head.extend(pieces(after)?);
        }
        let mut template = Self { head, body };
        template.settle();
        Ok(template)
    }

    /// Makes what does not differ into one piece.
    fn settle(&mut self) {
        if self
            .body
            .iter()
            .all(|piece| matches!(piece, Piece::Literal(_)))
        {
            let length = self.body_bytes(&Values::default());
            for piece in &mut self.head {
                if *piece == Piece::BodyLength {
                    *piece = Piece::Literal(length.to_string().into_bytes());
                }
            }
            self.head.append(&mut self.body);
        }
        let mut merged: Vec<Piece> = Vec::new();
        for piece in self.head.drain(..) {
            match (merged.last_mut(), piece) {
                (Some(Piece::Literal(before)), Piece::Literal(bytes)) => before.extend(bytes),
                (_, piece) => merged.push(piece),
            }
        }
        self.head = merged;
    }

    /// Some place has the key in it.
    pub(crate) fn has_key(&self) -> bool {
        let pieces = || self.head.iter().chain(&self.body);
        pieces().any(|piece| matches!(piece, Piece::Key | Piece::KeyAddress))
    }

    /// Appends the request to `out`. Cost: a copy of its bytes; no allocation while `out` has room.
    pub(crate) fn render(&self, values: &Values, out: &mut Buf) {
        for piece in self.head.iter().chain(&self.body) {
            if let Piece::Literal(bytes) = piece {
                out.extend(bytes);
            } else {
                let mut text = [0; VALUE_BYTES_MAX];
                out.extend(self.value(piece, values, &mut text));
            }
        }
    }

    fn value<'a>(
        &self,
        piece: &Piece,
        values: &Values,
        text: &'a mut [u8; VALUE_BYTES_MAX],
    ) -> &'a [u8] {
        use std::io::Write;
        let mut rest = text.as_mut_slice();
        let written = match piece {
            Piece::Literal(_) => Ok(()),
            Piece::Counter => write!(rest, "{}", values.counter),
            Piece::Random => write!(rest, "{:016x}", values.random),
            Piece::Key => write!(rest, "{}", values.key.number),
            Piece::KeyAddress => write!(rest, "{}", values.key.forwarded_address()),
            Piece::BodyLength => write!(rest, "{}", self.body_bytes(values)),
        };
        debug_assert!(written.is_ok(), "a value has at most 20 bytes");
        let left = rest.len();
        text.get(..VALUE_BYTES_MAX - left).unwrap_or_default()
    }

    fn body_bytes(&self, values: &Values) -> usize {
        let length = |piece: &Piece| match piece {
            Piece::Literal(bytes) => bytes.len(),
            _ => self.value(piece, values, &mut [0; VALUE_BYTES_MAX]).len(),
        };
        self.body.iter().map(length).sum()
    }
}

/// What a template may have.
const PLACES: [&str; 4] = ["${counter}", "${random}", "${key}", "${key_ip}"];

fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"${") {
        let (literal, place) = rest.split_at(at);
        let end = place
            .iter()
            .position(|&byte| byte == b'}')
            .ok_or("a `${` without its `}`")?;
        let (place, after) = place.split_at(end + 1);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_vec()));
        }
        pieces.push(match place {
            b"${counter}" => Piece::Counter,
            b"${random}" => Piece::Random,
            b"${key}" => Piece::Key,
            b"${key_ip}" => Piece::KeyAddress,
            _ => {
                let place = String::from_utf8_lossy(place);
                return Err(format!(
                    "`{place}` is not one of ${{counter}}, ${{random}}, ${{key}} and ${{key_ip}}{}",
                    did_you_mean(&place, &PLACES)
                ));
            }
        });
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_vec()));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &Template, values: &Values) -> String {
        let mut out = Buf::small();
        template.render(values, &mut out);
        String::from_utf8(out.data().to_vec()).unwrap()
    }

    const VALUES: Values = Values {
        counter: 12,
        random: 0xabc,
        key: Key {
            index: 0,
            number: 258,
        },
    };

    #[test]
    fn places_get_their_values() {
        let template =
            Template::parse(b"GET /${counter}?r=${random}&k=${key} ${key_ip}", None, b"").unwrap();
        assert!(template.has_key());
        assert_eq!(
            render(&template, &VALUES),
            "GET /12?r=0000000000000abc&k=258 10.0.1.4"
        );
    }

    #[test]
    fn a_body_with_places_has_its_own_length_each_time() {
        let template = Template::parse(b"L: ", Some(b"\r\n\r\n"), b"n=${counter}").unwrap();
        assert_eq!(render(&template, &VALUES), "L: 4\r\n\r\nn=12");
        let longest = Values {
            counter: u64::MAX,
            ..VALUES
        };
        assert_eq!(
            render(&template, &longest),
            format!("L: 22\r\n\r\nn={}", u64::MAX)
        );
    }

    #[test]
    fn a_request_without_places_is_one_piece() {
        let template = Template::parse(b"L: ", Some(b"\r\n\r\n"), b"hello").unwrap();
        assert_eq!(
            template.head,
            [Piece::Literal(b"L: 5\r\n\r\nhello".to_vec())]
        );
        assert!(template.body.is_empty() && !template.has_key());
    }

    #[test]
    fn unknown_places_are_refused() {
        assert!(Template::parse(b"${counters}", None, b"").is_err());
        assert!(Template::parse(b"", None, b"${key").is_err());
        assert!(Template::parse(b"$ {} $x", None, b"").is_ok());
    }
}
