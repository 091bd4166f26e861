//! Each limit held to its word: one route that has no other limit, asked beyond what the limit gives.

use std::net::SocketAddr;
use std::num::NonZeroU64;

use serde_json::{Value, json};

use super::Error;
use super::load::{Folder, Tool};
use super::mix::{Mix, Sample};
use crate::config::{Config, KeyPart, LimitConfig, LimitMode, Rate};

/// How long each is asked.
const SECONDS: u32 = 2;
/// Requests a second at most: what a small machine sends beside the gateway without lag, each on a connection of its own.
/// A machine that is full decides late, and what is late differs from the ideal.
const RATE_MAX: f64 = 1_000.0;
/// Keys, most first: as many as can be asked beyond the limit within that rate.
const KEYS: [u32; 6] = [100, 50, 20, 10, 5, 1];
/// How far beyond it.
const EXCESS: f64 = 2.0;
/// Limits that are judged.
const LIMITS_MAX: usize = 16;

/// How one limit is judged, or why it is not.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    name: String,
    rate: Rate,
    burst: NonZeroU64,
    status: u16,
    how: Result<How, &'static str>,
}

#[derive(Clone, Debug, PartialEq)]
struct How {
    /// Which of the mix's samples.
    sample: usize,
    place: Place,
    keys: u32,
    per_second: f64,
}

/// Where the key shows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Source,
    Header(String),
    Cookie(String),
    Query(String),
    /// All requests have the same key.
    Nowhere,
}

/// What came out for one limit.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) name: String,
    /// As `ringgate-load` writes it: `100/s:200`.
    pub(super) limit: String,
    /// Keys that were used, and `limiter_accuracy` of the report; or why there is none.
    pub(super) outcome: Result<(u32, Value), String>,
}

/// How to judge each limit that some route has.
pub(super) fn plan(config: &Config, mix: &Mix) -> Vec<Planned> {
    let used = config.limits.iter().enumerate().filter(|&(index, _)| {
        config
            .routes
            .iter()
            .any(|route| route.limits.contains(&index))
    });
    used.take(LIMITS_MAX)
        .map(|(index, limit)| Planned {
            name: limit.name.clone(),
            rate: limit.rate,
            burst: limit.burst,
            status: limit.status,
            how: how(index, limit, mix),
        })
        .collect()
}

fn how(index: usize, limit: &LimitConfig, mix: &Mix) -> Result<How, &'static str> {
    if limit.mode != LimitMode::Enforce {
        return Err("it refuses nothing");
    }
    if !limit.overrides.is_empty() {
        return Err("it has overrides");
    }
    let alone = mix
        .samples
        .iter()
        .position(|sample| sample.limits == [index]);
    let sample = alone.ok_or("no route that can be asked has it and no other")?;
    let place = limit.key.iter().find_map(|part| match part {
        KeyPart::ClientIp => Some(Place::Source),
        KeyPart::Header(name) => Some(Place::Header(name.clone())),
        KeyPart::Cookie(name) => Some(Place::Cookie(name.clone())),
        KeyPart::Query(name) => Some(Place::Query(name.clone())),
        _ => None,
    });
    let place = place.unwrap_or(Place::Nowhere);
    let seconds = f64::from(SECONDS);
    let given_per_second = limit.rate.units.get() as f64 / limit.rate.period.as_secs_f64()
        + limit.burst.get() as f64 / seconds;
    let per_second = |keys: u32| f64::from(keys) * given_per_second * EXCESS;
    let most = KEYS
        .iter()
        .copied()
        .filter(|&keys| keys == 1 || place != Place::Nowhere);
    let keys = most.into_iter().find(|&keys| per_second(keys) <= RATE_MAX);
    let keys = keys.ok_or("it gives more than is sent here")?;
    Ok(How {
        sample,
        place,
        keys,
        per_second: per_second(keys).max(1.0),
    })
}

impl Planned {
    pub(super) fn run(
        self,
        tool: &Tool,
        folder: &Folder,
        target: SocketAddr,
        samples: &[Sample],
    ) -> Result<Judged, Error> {
        let limit = format!("{}:{}", self.rate, self.burst);
        let judged = |outcome| Judged {
            name: self.name.clone(),
            limit: limit.clone(),
            outcome,
        };
        let (how, sample) = match &self.how {
            Err(why) => return Ok(judged(Err((*why).to_owned()))),
            Ok(how) => (how, &samples[how.sample]),
        };
        let (file, json) = (folder.file("limit.toml"), folder.file("limit.json"));
        std::fs::write(&file, self.config())?;
        let mut path = sample.path.clone();
        let mut command = tool.command();
        command
            .arg("--limit-config")
            .arg(&file)
            .arg("--json")
            .arg(&json);
        let is_key =
            |name: &str| matches!(&how.place, Place::Header(key) if key.eq_ignore_ascii_case(name));
        for (name, value) in sample.headers.iter().filter(|(name, _)| !is_key(name)) {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        let words = match &how.place {
            // A connection keeps its address, so that one request has one.
            Place::Source => vec!["--key-as".into(), "source".into(), "--no-keepalive".into()],
            Place::Header(name) => vec!["--key-as".into(), format!("header:{name}")],
            Place::Cookie(name) => vec!["-H".into(), format!("Cookie: {name}=key-${{key}}")],
            Place::Query(name) => {
                let sign = if path.contains('?') { '&' } else { '?' };
                path.push_str(&format!("{sign}{name}=key-${{key}}"));
                Vec::new()
            }
            Place::Nowhere => Vec::new(),
        };
        command.args(&words);
        if how.place != Place::Nowhere {
            command.args(["--keys", &format!("uniform:{}", how.keys)]);
        }
        command.args([
            "--threads",
            "1",
            "--quiet",
            "--live",
            "never",
            "-X",
            &sample.method,
        ]);
        command.args(["--rate", &format!("{:.0}", how.per_second)]);
        command.args(["--duration", &format!("{SECONDS}s"), "--lag-max", "1s"]);
        let expect = sample.expect.iter().map(u16::to_string).collect::<Vec<_>>();
        command.args(["--expect", &expect.join(",")]);
        let status = command.arg(format!("http://{target}{path}")).status()?;
        let report = std::fs::read(&json).ok();
        let report: Option<Value> = report.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        drop(std::fs::remove_file(&json));
        let accuracy = report
            .as_ref()
            .and_then(|report| report.get("limiter_accuracy"))
            .filter(|accuracy| accuracy.is_object());
        Ok(judged(match accuracy {
            // Where nothing was due to be refused, nothing was tried.
            Some(accuracy) if accuracy["requests"] == accuracy["ideal"] => {
                Err("the load was too slow to go beyond it".into())
            }
            Some(accuracy) => Ok((how.keys, accuracy.clone())),
            None => Err(format!("the run failed: {status}")),
        }))
    }

    /// The limit as it is after defaults and variables, for `--limit-config`.
    fn config(&self) -> String {
        let mut limit = toml::Table::new();
        limit.insert("rate".into(), self.rate.to_string().into());
        let number = |number: u64| toml::Value::from(i64::try_from(number).unwrap_or(i64::MAX));
        limit.insert("burst".into(), number(self.burst.get()));
        limit.insert("status".into(), number(self.status.into()));
        let mut limits = toml::Table::new();
        limits.insert(self.name.clone(), limit.into());
        let mut whole = toml::Table::new();
        whole.insert("limits".into(), limits.into());
        whole.to_string()
    }
}

impl Judged {
    pub(super) fn to_json(&self) -> Value {
        let (keys, accuracy, why) = match &self.outcome {
            Ok((keys, accuracy)) => (json!(keys), accuracy.clone(), Value::Null),
            Err(why) => (Value::Null, Value::Null, json!(why)),
        };
        json!({"name": self.name, "limit": self.limit, "keys": keys, "accuracy": accuracy, "not_judged": why})
    }
}
