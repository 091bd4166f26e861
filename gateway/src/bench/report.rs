//! What a bench prints beside the summary of the load.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::Error;
use super::accuracy::Judged;
use crate::cli::BenchArgs;

/// All that came out.
#[derive(Debug)]
pub(super) struct Report {
    /// The exit code of the load.
    pub(super) code: u8,
    /// Its report.
    pub(super) load: Value,
    pub(super) limits: Vec<Judged>,
    /// What each worker used of its core during the mix, by index.
    pub(super) busy: BTreeMap<usize, f64>,
    /// Connections accepted by the busiest worker over the mean, by listener.
    pub(super) imbalance: BTreeMap<String, f64>,
    pub(super) left_out: Vec<(String, String)>,
    /// Routes that were asked.
    pub(super) routes: usize,
}

impl Report {
    pub(super) fn write(&self, arguments: &BenchArgs) -> Result<(), Error> {
        if let Some(path) = &arguments.json
            && !arguments.json_to_stdout()
        {
            std::fs::write(path, self.to_json())?;
        }
        let text = if arguments.json_to_stdout() {
            self.to_json()
        } else {
            self.text()
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    fn to_json(&self) -> String {
        let limits: Vec<Value> = self.limits.iter().map(Judged::to_json).collect();
        let left_out: Vec<Value> = self
            .left_out
            .iter()
            .map(|(route, why)| json!({"route": route, "why": why}))
            .collect();
        let document = json!({
            "schema": "ringgate-bench/1",
            "exit_code": self.code,
            "load": self.load,
            "workers_busy": self.busy.values().collect::<Vec<_>>(),
            "worker_imbalance": self.imbalance,
            "limits": limits,
            "left_out": left_out,
        });
        format!("{document:#}\n")
    }

    fn text(&self) -> String {
        let mut page = String::new();
        let written = self.write_text(&mut page);
        debug_assert!(written.is_ok(), "writing to a string does not fail");
        page
    }

    fn write_text(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "\nverdict    {}", verdict(self.code))?;
        let busy: Vec<String> = self
            .busy
            .iter()
            .map(|(index, ratio)| format!("{index}: {:.0} %", ratio * 100.0))
            .collect();
        writeln!(page, "workers    of their cores {}", busy.join(", "))?;
        for (listener, ratio) in &self.imbalance {
            writeln!(
                page,
                "balance    {listener}: the worker with most connections took {ratio:.2} times the mean"
            )?;
        }
        for judged in &self.limits {
            let (name, limit) = (&judged.name, &judged.limit);
            match &judged.outcome {
                Err(why) => writeln!(page, "limit      {name} ({limit}): not judged: {why}")?,
                Ok((keys, accuracy)) => {
                    let percent = |side: &str| accuracy[side].as_f64().unwrap_or(f64::NAN);
                    writeln!(
                        page,
                        "limit      {name} ({limit}), {keys} keys: {} granted of {}, {} by the ideal bucket: over by {:.3} %, \
                         under by {:.3} %",
                        accuracy["granted"],
                        accuracy["requests"],
                        accuracy["ideal"],
                        percent("over_percent"),
                        percent("under_percent")
                    )?;
                }
            }
        }
        for (route, why) in &self.left_out {
            writeln!(page, "left out   {route}: {why}")?;
        }
        writeln!(
            page,
            "note       {} routes; gateway, upstream and load shared this machine's cores: compare such figures with each \
             other only",
            self.routes
        )
    }
}

/// The exit codes of `ringgate-load`.
fn verdict(code: u8) -> &'static str {
    match code {
        0 => "holds: no errors",
        3 => "generator-bound: the load could not keep its schedule",
        4 => "a goal was missed",
        _ => "requests failed",
    }
}
