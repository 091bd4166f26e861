//! Chunk lines.
