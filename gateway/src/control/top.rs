//! `/top`: who is busiest and who is limited most, by limit. Asks every worker and adds up what they say.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::admin::AdminState;
use crate::config::KeyPart;
use crate::telemetry::time::rfc3339;
use crate::telemetry::top::{Label, LabelPart, TopKey, TopKeys, TopList};

/// How long to wait for workers; one that is blocked or draining is left out.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Keys in each list.
const LISTED_MAX: usize = 20;

/// The page. `now_s`: seconds of the limits' time; `wall`: the same moment.
pub(super) async fn page(state: &AdminState, now_s: u32, wall: SystemTime) -> Value {
    let reports = ask(state).await;
    let moments = Moments { now_s, wall };
    let limits = state.plan.limits.iter().zip(&state.labels.limits);
    let limits = limits.enumerate().map(|(index, (limit, name))| {
        let lists = |pick: fn(&TopKeys) -> &TopList| {
            let of_limit = reports.iter().filter_map(|report| report.get(index));
            merge(&of_limit.map(pick).collect::<Vec<_>>(), now_s)
        };
        json!({
            "limit": name,
            "key": limit.key.iter().map(KeyPart::to_string).collect::<Vec<_>>(),
            "busiest": moments.list(lists(|keys| &keys.busiest)),
            "limited": moments.list(lists(|keys| &keys.limited)),
        })
    });
    json!({
        "workers": state.commands.len(),
        "workers_answered": reports.len(),
        "limits": limits.collect::<Vec<_>>(),
    })
}

/// What the workers say that answer in time.
async fn ask(state: &AdminState) -> Vec<Vec<TopKeys>> {
    // A place for every answer, so that no worker waits.
    let (reply, answers) = flume::bounded(state.commands.len());
    for commands in state.commands.iter() {
        // A worker that is gone does not answer.
        let _gone = commands
            .load()
            .send(crate::data::worker::Command::ReportTop(reply.clone()));
    }
    drop(reply);
    let mut reports = Vec::new();
    let collect = async {
        while reports.len() < state.commands.len() {
            let Ok(report) = answers.recv_async().await else {
                return;
            };
            reports.push(report);
        }
    };
    let _whoever_answered = tokio::time::timeout(ANSWER_TIMEOUT, collect).await;
    reports
}

/// A key over all workers.
struct Merged {
    label: Label,
    requests: u64,
    refused: u64,
    per_second: f64,
    since_s: u32,
}

/// Adds up what workers counted, the most requests first.
fn merge(lists: &[&TopList], now_s: u32) -> Vec<(u64, Merged)> {
    let mut keys: HashMap<u64, Merged> = HashMap::new();
    for list in lists {
        let seconds = f64::from(now_s.saturating_sub(list.from_s).max(1));
        for key in &list.keys {
            let TopKey {
                hash,
                label,
                requests,
                refused,
                since_s,
            } = key;
            let merged = keys.entry(*hash).or_insert_with(|| Merged {
                label: label.clone(),
                requests: 0,
                refused: 0,
                per_second: 0.0,
                since_s: *since_s,
            });
            merged.requests += requests;
            merged.refused += refused;
            // Counts of two minutes: far below the 32 bits where a float would round.
            merged.per_second += f64::from(u32::try_from(*requests).unwrap_or(u32::MAX)) / seconds;
            merged.since_s = merged.since_s.min(*since_s);
        }
    }
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort_by_key(|(hash, key)| (std::cmp::Reverse(key.requests), *hash));
    keys.truncate(LISTED_MAX);
    keys
}

/// The limits' time beside that of the wall.
struct Moments {
    now_s: u32,
    wall: SystemTime,
}

impl Moments {
    fn list(&self, keys: Vec<(u64, Merged)>) -> Vec<Value> {
        let show = |(hash, key): (u64, Merged)| {
            let parts = key.label.parts();
            json!({
                "key": parts.iter().map(show_part).collect::<Vec<_>>(),
                "hash": format!("{hash:016x}"),
                "requests": key.requests,
                "rate": (key.per_second * 1000.0).round() / 1000.0,
                "refused": key.refused,
                "since": self.show(key.since_s),
            })
        };
        keys.into_iter().map(show).collect()
    }

    fn show(&self, moment_s: u32) -> String {
        let ago = Duration::from_secs(self.now_s.saturating_sub(moment_s).into());
        let wall = self.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let moment = Duration::from_secs(wall.saturating_sub(ago).as_secs());
        let mut text = Vec::new();
        rfc3339(u64::try_from(moment.as_micros()).unwrap_or(0), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// A part as JSON: `null` where the request had none.
fn show_part(part: &LabelPart) -> Value {
    match part {
        LabelPart::Absent => Value::Null,
        LabelPart::Several => "(several)".into(),
        LabelPart::Hidden(hash) => format!("hash:{hash:016x}").into(),
        LabelPart::Address(address) => address.to_string().into(),
        LabelPart::Text(text) => text.as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(hash: u64, requests: u64, since_s: u32) -> TopKey {
        TopKey {
            hash,
            label: Label::default(),
            requests,
            refused: 1,
            since_s,
        }
    }

    #[test]
    fn what_workers_and_windows_counted_is_added_up() {
        let one = TopList {
            from_s: 90,
            keys: vec![key(1, 20, 95), key(1, 10, 92), key(2, 25, 90)],
        };
        let two = TopList {
            from_s: 80,
            keys: vec![key(1, 40, 99)],
        };
        let merged = merge(&[&one, &two], 100);
        assert_eq!(merged.len(), 2);
        let (hash, first) = &merged[0];
        assert_eq!((*hash, first.requests, first.refused), (1, 70, 3));
        assert_eq!((first.since_s, first.per_second), (92, 5.0));
    }

    #[test]
    fn lists_are_short() {
        let keys = (0..100).map(|number| key(number, number, 0)).collect();
        let merged = merge(&[&TopList { from_s: 0, keys }], 10);
        assert_eq!(merged.len(), LISTED_MAX);
        assert_eq!((merged[0].0, merged[19].0), (99, 80));
    }
}
