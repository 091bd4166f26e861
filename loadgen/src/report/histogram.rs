//! Histograms as text: HdrHistogram V2, deflated, in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use crate::stats::Times;

/// The text of a histogram.
pub(super) fn encode(times: &Times) -> String {
    let mut bytes = Vec::new();
    let written = V2DeflateSerializer::new().serialize(times, &mut bytes);
    debug_assert!(written.is_ok(), "writing to memory does not fail");
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;

    #[test]
    fn a_histogram_comes_back_as_it_went() {
        let mut times = crate::stats::times();
        for value in [1, 1_000, 1_000_000, 3_599_000_000_000] {
            times.record(value).unwrap();
        }
        let text = encode(&times);
        assert!(
            text.starts_with("HISTF"),
            "the mark of the V2 deflated format: {text}"
        );
        let bytes = STANDARD.decode(text).unwrap();
        let back: Times = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .unwrap();
        assert_eq!(back, times);
    }
}
