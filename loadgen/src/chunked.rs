//! Bodies in chunks, RFC 9112 section 7.1: where they end and how much data is in them.

/// Bytes of a chunk's extensions or of a trailer line.
const LINE_BYTES_MAX: u32 = 16 * 1024;

/// Where a body in chunks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunked {
    Size { value: u64, digits: u8 },
    Extension { value: u64, bytes: u32 },
    SizeEnd { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerLine { bytes: u32, empty: bool },
    TrailerLf { bytes: u32, empty: bool },
}

/// What was taken of some bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// Bytes taken.
    pub(crate) taken: usize,
    /// Bytes of data among them.
    pub(crate) data_bytes: u64,
    /// Where the body is now; `None`: it has ended.
    pub(crate) next: Option<Chunked>,
}

impl Chunked {
    /// Before the first chunk.
    pub(crate) const START: Self = Self::Size {
        value: 0,
        digits: 0,
    };

    /// Takes chunk framing and data from the front of `bytes`: all of them, unless the body ends before.
    ///
    /// # Errors
    ///
    /// What is wrong with the framing.
    pub(crate) fn advance(self, bytes: &[u8]) -> Result<Part, &'static str> {
        let mut state = self;
        let (mut taken, mut data_bytes) = (0, 0);
        while let Some(&byte) = bytes.get(taken) {
            if let Self::Data { left } = state {
                let part = left.min((bytes.len() - taken) as u64);
                data_bytes += part;
                taken += usize::try_from(part).unwrap_or(usize::MAX);
                state = if part == left {
                    Self::DataCr
                } else {
                    Self::Data { left: left - part }
                };
                continue;
            }
            taken += 1;
            let Some(next) = state.step(byte)? else {
                return Ok(Part {
                    taken,
                    data_bytes,
                    next: None,
                });
            };
            state = next;
        }
        Ok(Part {
            taken,
            data_bytes,
            next: Some(state),
        })
    }

    /// One byte of framing; `None` at the end of the body.
    fn step(self, byte: u8) -> Result<Option<Self>, &'static str> {
        let next = match (self, byte) {
            (Self::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                // 15 digits cannot overflow a sum of two; no honest chunk is longer.
                if digits == 15 {
                    return Err("chunk size too large");
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Self::Size {
                    value: value * 16 + u64::from(digit),
                    digits: digits + 1,
                }
            }
            (Self::Size { digits: 0, .. }, _) => return Err("chunk size missing"),
            (Self::Size { value, .. }, b'\r') => Self::SizeEnd { value },
            (Self::Size { value, .. }, b';' | b' ' | b'\t') => Self::Extension { value, bytes: 1 },
            (Self::Extension { value, .. }, b'\r') => Self::SizeEnd { value },
            (Self::Extension { bytes, .. }, byte) if bytes == LINE_BYTES_MAX || byte == b'\n' => {
                return Err("chunk extension");
            }
            (Self::Extension { value, bytes }, _) => Self::Extension {
                value,
                bytes: bytes + 1,
            },
            (Self::SizeEnd { value: 0 }, b'\n') => Self::TrailerLine {
                bytes: 0,
                empty: true,
            },
            (Self::SizeEnd { value }, b'\n') => Self::Data { left: value },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::START,
            (Self::TrailerLine { bytes, empty }, b'\r') => Self::TrailerLf { bytes, empty },
            (Self::TrailerLine { bytes, .. }, byte) if bytes < LINE_BYTES_MAX && byte != b'\n' => {
                Self::TrailerLine {
                    bytes: bytes + 1,
                    empty: false,
                }
            }
            (Self::TrailerLf { empty: true, .. }, b'\n') => return Ok(None),
            (Self::TrailerLf { bytes, .. }, b'\n') => Self::TrailerLine { bytes, empty: true },
            _ => return Err("chunk framing"),
        };
        Ok(Some(next))
    }
}
