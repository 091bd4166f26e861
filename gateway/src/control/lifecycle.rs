//! Where the process is between its start and its end. Written by the supervisor, read by `/readyz`.

use std::sync::atomic::{AtomicU8, Ordering};

/// A phase that only goes forward.
#[derive(Debug, Default)]
pub struct Lifecycle(AtomicU8);

/// The phases, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Workers are not all there yet.
    Starting = 0,
    /// Requests are welcome.
    Ready = 1,
    /// Requests should go elsewhere; those in flight are finished.
    Draining = 2,
}

impl Lifecycle {
    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        // Relaxed: no other memory is published through it.
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Goes to `phase`, or stays in a later one: a drain asked for during the start is not forgotten.
    pub fn advance(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::Relaxed);
    }
}

impl Phase {
    /// The word that `/readyz` answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lifecycle, Phase};

    #[test]
    fn a_phase_never_goes_back() {
        let lifecycle = Lifecycle::default();
        assert_eq!(lifecycle.phase(), Phase::Starting);
        lifecycle.advance(Phase::Draining);
        lifecycle.advance(Phase::Ready);
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }
}
