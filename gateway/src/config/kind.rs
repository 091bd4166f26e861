//! The kinds of values that keys take: each reads a value, states its bounds and shows a value as written.

use std::fmt::Display;
use std::marker::PhantomData;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::nearest::did_you_mean;
use super::resolved::{MaxKeys, Rate};
use super::units;

/// A value of the file with its variables replaced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Written<'a> {
    /// A string.
    Text(&'a str),
    /// An integer; `None`: beyond 64 bits.
    Integer(Option<i64>),
    /// `true` or `false`.
    Flag(bool),
    /// Anything else, by the name of its TOML type.
    Other(&'static str),
}

/// What values a key takes.
pub(super) trait Kind: Sync {
    /// The resolved value.
    type Value;

    /// What a value must be, with its bounds, as a noun phrase.
    fn expects(&self) -> String;

    /// The resolved value, or what is wrong with the one written (in words that may show it).
    fn read(&self, written: Written<'_>) -> Result<Self::Value, String>;

    /// The value as written in a file.
    fn show(&self, value: &Self::Value) -> String;

    /// Whether `${...}` may also name something of a request, which is left as it is.
    fn has_request_variables(&self) -> bool {
        false
    }
}

impl Written<'_> {
    /// The message for a value of the wrong type.
    pub(super) fn mismatch(self, expects: &str) -> String {
        let found = match self {
            Written::Text(_) => "a string",
            Written::Integer(_) => "an integer",
            Written::Flag(_) => "a boolean",
            Written::Other(name) => name,
        };
        format!("expected {expects}; found {found}")
    }
}

/// An unsigned type that an integer or a size resolves to.
pub(super) trait Number: Copy + Sync {
    /// `None`: out of the type's range.
    fn of(value: u64) -> Option<Self>;
    /// The value as the widest of them.
    fn widest(self) -> u64;
}

macro_rules! number {
    ($($plain:ty),*; $($non_zero:ty),*) => {
        $(impl Number for $plain {
            fn of(value: u64) -> Option<Self> {
                Self::try_from(value).ok()
            }
            fn widest(self) -> u64 {
                u64::from(self)
            }
        })*
        $(impl Number for $non_zero {
            fn of(value: u64) -> Option<Self> {
                value.try_into().ok().and_then(Self::new)
            }
            fn widest(self) -> u64 {
                // Lossless: no supported target has a usize beyond 64 bits.
                u64::try_from(self.get()).unwrap_or(u64::MAX)
            }
        })*
    };
}

number!(u8, u16, u32, u64; NonZeroU32, NonZeroU64, NonZeroUsize);

/// The value if it is within the bounds, else the message that names them.
fn bounded<T, O: PartialOrd>(
    value: T,
    key: O,
    bounds: (O, O),
    show: impl Fn(O) -> String,
) -> Result<T, String> {
    if bounds.0 <= key && key <= bounds.1 {
        Ok(value)
    } else {
        Err(format!(
            "must be from {} to {}; found {}",
            show(bounds.0),
            show(bounds.1),
            show(key)
        ))
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;
    fn expects(&self) -> String {
        "`true` or `false`".into()
    }
    fn read(&self, written: Written<'_>) -> Result<bool, String> {
        match written {
            Written::Flag(flag) => Ok(flag),
            other => Err(other.mismatch(&self.expects())),
        }
    }
    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// An integer within bounds.
pub(super) struct Integer<T> {
    min: u64,
    max: u64,
    power_of_two: bool,
    resolved: PhantomData<fn() -> T>,
}

impl<T> Integer<T> {
    /// From `min` to `max`, both included.
    pub(super) const fn new(min: u64, max: u64) -> Self {
        Self {
            min,
            max,
            power_of_two: false,
            resolved: PhantomData,
        }
    }
    /// A power of two from `min` to `max`, both included.
    pub(super) const fn power_of_two(min: u64, max: u64) -> Self {
        Self {
            min,
            max,
            power_of_two: true,
            resolved: PhantomData,
        }
    }
}

impl<T: Number> Kind for Integer<T> {
    type Value = T;
    fn expects(&self) -> String {
        let what = if self.power_of_two {
            "a power of two"
        } else {
            "an integer"
        };
        format!("{what} from {} to {}", self.min, self.max)
    }
    fn read(&self, written: Written<'_>) -> Result<T, String> {
        let Written::Integer(integer) = written else {
            return Err(written.mismatch(&self.expects()));
        };
        let out = || format!("must be {}", self.expects());
        let value = integer
            .and_then(|integer| u64::try_from(integer).ok())
            .ok_or_else(out)?;
        if self.power_of_two && !value.is_power_of_two() {
            return Err(format!("{}; found {value}", out()));
        }
        let value = bounded(value, value, (self.min, self.max), |each| each.to_string())?;
        T::of(value).ok_or_else(out)
    }
    fn show(&self, value: &T) -> String {
        value.widest().to_string()
    }
}

/// A duration within bounds.
pub(super) struct Time {
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

impl Kind for Time {
    type Value = Duration;
    fn expects(&self) -> String {
        let show = units::show_duration;
        format!(
            "a duration from \"{}\" to \"{}\"",
            show(self.min),
            show(self.max)
        )
    }
    fn read(&self, written: Written<'_>) -> Result<Duration, String> {
        let value = match written {
            Written::Text(text) => units::parse_duration(text)?,
            Written::Integer(Some(number)) if number >= 0 => {
                return Err(format!(
                    "add a unit to the duration: \"{number}s\" for seconds or \"{number}ms\" for milliseconds"
                ));
            }
            other => return Err(other.mismatch(&self.expects())),
        };
        bounded(value, value, (self.min, self.max), units::show_duration)
    }
    fn show(&self, value: &Duration) -> String {
        format!("\"{}\"", units::show_duration(*value))
    }
}

/// A size in bytes within bounds.
pub(super) struct Size<T> {
    min: u64,
    max: u64,
    resolved: PhantomData<fn() -> T>,
}

impl<T> Size<T> {
    /// From `min` to `max` bytes, both included.
    pub(super) const fn new(min: u64, max: u64) -> Self {
        Self {
            min,
            max,
            resolved: PhantomData,
        }
    }
}

impl<T: Number> Kind for Size<T> {
    type Value = T;
    fn expects(&self) -> String {
        let show = units::show_size;
        format!(
            "a size from \"{}\" to \"{}\"",
            show(self.min),
            show(self.max)
        )
    }
    fn read(&self, written: Written<'_>) -> Result<T, String> {
        let bytes = match written {
            Written::Text(text) => units::parse_size(text)?,
            Written::Integer(Some(number)) if number >= 0 => {
                return Err(format!(
                    "add a unit to the size: \"{number}B\" for bytes, or KiB, MiB, GiB"
                ));
            }
            other => return Err(other.mismatch(&self.expects())),
        };
        let bytes = bounded(bytes, bytes, (self.min, self.max), units::show_size)?;
        T::of(bytes).ok_or_else(|| format!("must be {}", self.expects()))
    }
    fn show(&self, value: &T) -> String {
        format!("\"{}\"", units::show_size(value.widest()))
    }
}

/// A table's size: in bytes, or in keys as an integer.
pub(super) struct TableSize {
    /// In bytes.
    pub bytes: Size<NonZeroU64>,
    /// In keys.
    pub keys: Integer<NonZeroU64>,
}

impl Kind for TableSize {
    type Value = MaxKeys;
    fn expects(&self) -> String {
        let (bytes, keys) = (self.bytes.expects(), self.keys.expects());
        format!("{bytes}, or {keys}, which counts keys")
    }
    fn read(&self, written: Written<'_>) -> Result<MaxKeys, String> {
        match written {
            Written::Text(_) => self.bytes.read(written).map(MaxKeys::Bytes),
            Written::Integer(_) => self.keys.read(written).map(MaxKeys::Keys),
            other => Err(other.mismatch(&self.expects())),
        }
    }
    fn show(&self, value: &MaxKeys) -> String {
        match value {
            MaxKeys::Bytes(bytes) => self.bytes.show(bytes),
            MaxKeys::Keys(keys) => self.keys.show(keys),
        }
    }
}

/// A share in whole per cent within bounds.
pub(super) struct Percent {
    /// The smallest.
    pub min: u8,
    /// The largest.
    pub max: u8,
}

impl Kind for Percent {
    type Value = u8;
    fn expects(&self) -> String {
        format!("a share from \"{}%\" to \"{}%\"", self.min, self.max)
    }
    fn read(&self, written: Written<'_>) -> Result<u8, String> {
        let number = match written {
            Written::Text(text) => text
                .strip_suffix('%')
                .and_then(|number| number.parse().ok()),
            Written::Integer(Some(number)) if number >= 0 => {
                return Err(format!("add the unit to the share: \"{number}%\""));
            }
            other => return Err(other.mismatch(&self.expects())),
        };
        let number: u8 = number.ok_or_else(|| format!("must be {}", self.expects()))?;
        bounded(number, number, (self.min, self.max), |each| {
            format!("{each}%")
        })
    }
    fn show(&self, value: &u8) -> String {
        format!("\"{value}%\"")
    }
}

/// Bytes per second within bounds.
pub(super) struct Speed {
    /// The slowest.
    pub min: u64,
    /// The fastest.
    pub max: u64,
}

impl Kind for Speed {
    type Value = u64;
    fn expects(&self) -> String {
        let show = units::show_size;
        format!(
            "a speed from \"{}/s\" to \"{}/s\"",
            show(self.min),
            show(self.max)
        )
    }
    fn read(&self, written: Written<'_>) -> Result<u64, String> {
        let Written::Text(text) = written else {
            return Err(written.mismatch(&self.expects()));
        };
        let speed = units::parse_byte_rate(text)?;
        bounded(speed, speed, (self.min, self.max), |each| {
            format!("{}/s", units::show_size(each))
        })
    }
    fn show(&self, value: &u64) -> String {
        format!("\"{}/s\"", units::show_size(*value))
    }
}

/// Units per period.
pub(super) struct Frequency {
    /// Most units in a period.
    pub units_max: u64,
}

impl Kind for Frequency {
    type Value = Rate;
    fn expects(&self) -> String {
        format!(
            "a rate such as \"100/s\", \"30/m\", \"5/h\", \"1/d\"; at most {} units",
            self.units_max
        )
    }
    fn read(&self, written: Written<'_>) -> Result<Rate, String> {
        match written {
            Written::Text(text) => {
                let rate: Rate = text.parse()?;
                bounded(rate, rate.units.get(), (1, self.units_max), |each| {
                    format!("{each} units")
                })
            }
            Written::Integer(Some(number)) if number >= 0 => Err(format!(
                "add a period to the rate: \"{number}/s\" (or /m, /h, /d)"
            )),
            other => Err(other.mismatch(&self.expects())),
        }
    }
    fn show(&self, value: &Rate) -> String {
        format!("\"{value}\"")
    }
}

/// One of a few words.
pub(super) struct Word<T: 'static> {
    /// The words with what they mean.
    pub words: &'static [(&'static str, T)],
}

impl<T: Copy + PartialEq + Sync> Kind for Word<T> {
    type Value = T;
    fn expects(&self) -> String {
        let words: Vec<String> = self
            .words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        match words.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            _ => words.concat(),
        }
    }
    fn read(&self, written: Written<'_>) -> Result<T, String> {
        let Written::Text(text) = written else {
            return Err(written.mismatch(&self.expects()));
        };
        let found = self.words.iter().find(|&&(word, _)| word == text);
        found.map(|&(_, value)| value).ok_or_else(|| {
            let near = did_you_mean(text, self.words.iter().map(|&(word, _)| word));
            format!("`{text}` is not one of {}{near}", self.expects())
        })
    }
    fn show(&self, value: &T) -> String {
        let found = self.words.iter().find(|(_, each)| each == value);
        format!("\"{}\"", found.map_or("", |&(word, _)| word))
    }
}

/// A value of another kind, or the word that stands for its absence (`None`).
pub(super) struct Or<K> {
    /// The word.
    pub word: &'static str,
    /// The other kind.
    pub kind: K,
}

impl<K: Kind> Kind for Or<K> {
    type Value = Option<K::Value>;
    fn expects(&self) -> String {
        format!("{}, or \"{}\"", self.kind.expects(), self.word)
    }
    fn read(&self, written: Written<'_>) -> Result<Self::Value, String> {
        match written {
            Written::Text(text) if text == self.word => Ok(None),
            other => self.kind.read(other).map(Some).map_err(|message| {
                let near = match other {
                    Written::Text(text) => did_you_mean(text, [self.word]),
                    _ => String::new(),
                };
                match near.is_empty() {
                    true => format!("{message} (or write \"{}\")", self.word),
                    false => format!("{message}{near}"),
                }
            }),
        }
    }
    fn show(&self, value: &Self::Value) -> String {
        value.as_ref().map_or_else(
            || format!("\"{}\"", self.word),
            |value| self.kind.show(value),
        )
    }
}

/// A string that a function reads.
pub(super) struct Text<T> {
    /// What a value must be, as a noun phrase.
    pub expects: &'static str,
    /// The value, or what is wrong with it.
    pub parse: fn(&str) -> Result<T, String>,
    /// The value as text.
    pub show: fn(&T) -> String,
}

/// Where a file is.
pub(super) const FILE: Text<PathBuf> = Text {
    expects: "a file's path",
    parse: |text| match text {
        "" => Err("an empty path".into()),
        path => Ok(path.into()),
    },
    show: |path| path.display().to_string(),
};

impl<T> Kind for Text<T> {
    type Value = T;
    fn expects(&self) -> String {
        self.expects.into()
    }
    fn read(&self, written: Written<'_>) -> Result<T, String> {
        match written {
            Written::Text(text) => (self.parse)(text),
            other => Err(other.mismatch(self.expects)),
        }
    }
    fn show(&self, value: &T) -> String {
        format!("\"{}\"", (self.show)(value))
    }
}

/// `show` of a [`Text`] whose value displays as it is written.
pub(super) fn shown<T: Display>(value: &T) -> String {
    value.to_string()
}
