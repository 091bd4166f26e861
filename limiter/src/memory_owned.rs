//! The memory of a shard where loom or Miri watches: on the heap, each slot made by its constructor.

use std::io;
use std::ops::Deref;

use crate::slot::Line;

/// A fixed array of lines.
#[derive(Debug)]
pub(crate) struct Lines(Box<[Line]>);

impl Lines {
    /// Makes `len` lines.
    pub(crate) fn new(len: usize, _huge_pages: bool) -> io::Result<Self> {
        Ok(Self((0..len).map(|_| Line::new()).collect()))
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        &self.0
    }
}
