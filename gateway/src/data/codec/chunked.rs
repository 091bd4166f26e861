//! Chunked.

use bytes::BufMut;

use super::error::ChunkError;

/// Follows a chunked body. `Copy`, so that a look ahead can be thrown away.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunkedReader {
    payload: u64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Octets of the input that were understood. The rest is presented again, with more behind it, at the next call.
    pub consumed: usize,
    /// Payload octets among them.
    pub payload: usize,
    /// Whether those octets are exactly what [`ChunkedReader::transcode`] would write for a receiver of chunks.
    pub canonical: bool,
    /// The message is complete; what follows `consumed` belongs to the next.
    pub ended: bool,
}

/// How a body is written for its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkedOutput {
    /// As chunks; trailers only where the receiver said that it takes them.
    Chunked {
        /// The receiver takes trailers.
        trailers: bool,
    },
    /// Payload alone, for a receiver that reads until close or to a known length.
    Bare,
}

impl ChunkedReader {
    /// At the start of a body.
    #[must_use]
    pub const fn new() -> Self {
        Self { payload: 0 }
    }

    /// Follows the framing without copying.
    ///
    /// # Errors
    /// The rule.
    pub fn verify(&mut self, input: &[u8]) -> Result<Progress, ChunkError> {
        _ = input;
        todo!()
    }

    /// Follows the framing and writes the body anew.
    ///
    /// # Errors
    /// The rule.
    pub fn transcode(
        &mut self,
        input: &[u8],
        output: ChunkedOutput,
        out: &mut impl BufMut,
    ) -> Result<Progress, ChunkError> {
        _ = (input, output, out);
        todo!()
    }

    /// Payload octets read so far, and those that the current chunk still promises: compare this with the largest body
    /// allowed.
    #[must_use]
    pub const fn payload_promised(&self) -> u64 {
        self.payload
    }
}
