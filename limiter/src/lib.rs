//! Rate limits that are exact on every core.
//!
//! A [`Limiter`] admits each key `burst + rate * t` units over any time `t`, over all threads together, with no lock, no
//! thread waiting for another and no allocation after its creation. Its memory is fixed, and a flood of keys cannot make it
//! forget one: only a bucket that has refilled, which equals a new one, is given to another key.
//!
//! Time is an argument. Read a clock once per request and pass the value on.
//!
//! ```
//! use std::num::NonZeroU64;
//! use std::time::Duration;
//! use limiter::{Budget, Clock, Decision, KeyHasher, Limiter, LimiterOptions, ManualClock, Period, Quota, TableOptions};
//!
//! let limiter = Limiter::new(LimiterOptions {
//!     quota: Quota::new(10, Period::Second, 2)?,
//!     table: TableOptions::new(Budget::Keys(NonZeroU64::new(10_000).ok_or("no keys")?)),
//! })?;
//! let hasher = KeyHasher::random();
//! let clock = ManualClock::default();
//!
//! let client = hasher.address("192.0.2.7".parse()?, 64);
//! assert!(limiter.check(client, 1, clock.now()).is_allowed());
//! assert!(limiter.check(client, 1, clock.now()).is_allowed());
//! let Decision::Refused(refused) = limiter.check(client, 1, clock.now()) else {
//!     return Err("the burst is two".into());
//! };
//! assert_eq!(refused.retry_after(), Some(Duration::from_millis(100)));
//!
//! clock.advance(Duration::from_millis(100));
//! assert!(limiter.check(client, 1, clock.now()).is_allowed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Inside
//!
//! `quota` and `bucket` are the arithmetic (the generic cell rate algorithm, ITU-T I.371), `slot` and `table` the sharing,
//! `keyed`, `several` and `concurrency` what users call. Each of the first four opens with its argument why it is right;
//! `tests/loom.rs` tries the races in every order.

mod bucket;
mod clock;
mod concurrency;
mod decision;
mod key;
mod keyed;
#[cfg_attr(any(loom, miri), path = "memory_owned.rs")]
mod memory;
mod options;
mod overflow;
mod places;
mod quota;
mod rate;
mod several;
mod slot;
mod sync;
mod table;

pub use clock::{Clock, ManualClock, MonotonicClock, Timestamp};
pub use concurrency::{Concurrency, Full, Permit};
pub use decision::{Allowed, Charge, Decision, Refused};
pub use key::{Key, KeyHasher, KeyParts, STEER_MULTIPLIER};
pub use keyed::{Limiter, LimiterOptions, Stats};
pub use options::{Budget, TableError, TableOptions, TableSize};
pub use quota::{Period, Quota, QuotaError, TICKS_PER_NANO_MAX};
pub use rate::Rate;
pub use several::{Check, Mode, check_all};
