//! How large a table is and where its memory lies.

use std::error::Error;
use std::fmt;
use std::io;
use std::num::{NonZeroU64, NonZeroUsize};

use crate::slot::{Line, SLOTS};
use crate::table::Geometry;

/// Share of the slots that may be live while fewer than one key in a thousand overflows (0.07 % at 54 %).
const FILL_PERCENT: u64 = 54;
/// Fewest lines of a shard: with fewer, chance alone fills some lines while others are empty.
const LINES_MIN: usize = if cfg!(loom) { 1 } else { 16 };
/// Most lines of a shard: their number is scaled by 32 bits of the hash.
const LINES_MAX: u64 = 1 << 31;
/// Lines to one overflow bucket of eight bytes: 1.6 % of the memory.
const LINES_PER_OVERFLOW_BUCKET: u64 = 8;
/// Fewest overflow buckets.
const OVERFLOW_BUCKETS_MIN: u64 = if cfg!(loom) { 1 } else { 64 };
/// Most shards: they are chosen by 16 bits.
const SHARDS_MAX: usize = 1 << 12;

/// How much memory a table may have; it is set aside at once and never grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Budget {
    /// Bytes of memory, all told; at least 1 KiB for each shard and 512 bytes.
    Bytes(NonZeroU64),
    /// Keys that may be live (have used units that have not refilled) at once while fewer than one in a thousand of them
    /// overflows; 30 bytes each.
    Keys(NonZeroU64),
}

/// Shape and place of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableOptions {
    /// How much memory.
    pub budget: Budget,
    /// Parts with memory of their own, one for each worker.
    pub shards: NonZeroUsize,
    /// Ask for pages of 2 MiB: fewer misses of the address cache in tables of many megabytes. Off by default.
    pub huge_pages: bool,
    /// Put all memory in place at creation, by the creating thread. Off by default: pages are then placed by the first use
    /// or by `touch_shard`.
    pub prefault: bool,
}

impl TableOptions {
    /// One shard, small pages, no pre-fault.
    #[must_use]
    pub const fn new(budget: Budget) -> Self {
        Self {
            budget,
            shards: NonZeroUsize::MIN,
            huge_pages: false,
            prefault: false,
        }
    }

    /// The same with one shard for each of so many workers.
    #[must_use]
    pub const fn with_shards(self, shards: NonZeroUsize) -> Self {
        Self { shards, ..self }
    }

    /// How large a table with these options is; allocates nothing.
    ///
    /// # Errors
    ///
    /// [`TableError`] where the budget is out of bounds.
    pub fn size(&self) -> Result<TableSize, TableError> {
        let geometry = self.geometry()?;
        let lines = geometry.lines_per_shard * geometry.shards;
        Ok(TableSize {
            bytes: (lines * size_of::<Line>() + geometry.overflow_buckets * size_of::<u64>())
                as u64,
            capacity_keys: capacity_keys(lines * SLOTS),
        })
    }

    pub(crate) fn geometry(&self) -> Result<Geometry, TableError> {
        if self.shards.get() > SHARDS_MAX {
            return Err(TableError::TooManyShards {
                shards: self.shards.get(),
                max: SHARDS_MAX,
            });
        }
        let shards = self.shards.get() as u64;
        let lines_min = LINES_MIN as u64;
        let line_bytes = size_of::<Line>() as u64;
        let lines = match self.budget {
            Budget::Keys(keys) => {
                let slots = keys.get().saturating_mul(100).div_ceil(FILL_PERCENT);
                slots.div_ceil(SLOTS as u64 * shards).max(lines_min)
            }
            Budget::Bytes(bytes) => {
                let smallest = lines_min * line_bytes * shards + OVERFLOW_BUCKETS_MIN * 8;
                if bytes.get() < smallest {
                    return Err(TableError::BudgetTooSmall {
                        bytes: bytes.get(),
                        min: smallest,
                    });
                }
                // A line and its part of an overflow bucket: 65 bytes.
                let with_overflow = bytes.get() / (line_bytes + 8 / LINES_PER_OVERFLOW_BUCKET);
                let beside_fewest = (bytes.get() - OVERFLOW_BUCKETS_MIN * 8) / line_bytes;
                with_overflow.min(beside_fewest) / shards
            }
        };
        if lines > LINES_MAX {
            return Err(TableError::BudgetTooLarge);
        }
        let overflow = (lines * shards / LINES_PER_OVERFLOW_BUCKET).max(OVERFLOW_BUCKETS_MIN);
        Ok(Geometry {
            shards: self.shards.get(),
            lines_per_shard: usize::try_from(lines).map_err(|_| TableError::BudgetTooLarge)?,
            overflow_buckets: usize::try_from(overflow).map_err(|_| TableError::BudgetTooLarge)?,
            huge_pages: self.huge_pages,
        })
    }
}

/// How large a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Memory, all told.
    pub bytes: u64,
    /// Keys that may be live at once while fewer than one in a thousand overflows.
    pub capacity_keys: u64,
}

/// Why there is no table.
#[derive(Debug)]
#[non_exhaustive]
pub enum TableError {
    /// Fewer bytes than the smallest table has.
    BudgetTooSmall {
        /// The bytes allowed.
        bytes: u64,
        /// The smallest budget with so many shards.
        min: u64,
    },
    /// More than 2^31 lines in a shard.
    BudgetTooLarge,
    /// More shards than can be told apart.
    TooManyShards {
        /// The shards asked for.
        shards: usize,
        /// The most there may be.
        max: usize,
    },
    /// The system has no such room.
    Memory(io::Error),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BudgetTooSmall { bytes, min } => {
                write!(
                    f,
                    "{bytes} bytes are too few for a table, which takes at least {min}"
                )
            }
            Self::BudgetTooLarge => {
                write!(f, "a shard holds at most {LINES_MAX} lines of 64 bytes")
            }
            Self::TooManyShards { shards, max } => write!(f, "{shards} shards exceed {max}"),
            Self::Memory(error) => write!(f, "no memory for the table: {error}"),
        }
    }
}

impl Error for TableError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Memory(error) => Some(error),
            _ => None,
        }
    }
}

/// Keys that may be live in so many slots while fewer than one in a thousand overflows.
pub(crate) fn capacity_keys(slots: usize) -> u64 {
    slots as u64 * FILL_PERCENT / 100
}
