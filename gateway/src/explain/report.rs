//! What `ringgate explain` says, as text and as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::ExplainArgs;
use crate::config::{AuthenticatorKind, Config, RouteConfig, ValuePattern};
use crate::data::explain::{Asks, End, Explanation, Known, Lost};
use crate::data::route::Unmet;
use crate::telemetry::NetworkOutcome;
use crate::telemetry::top::LabelPart;

/// An explanation and what it is about.
pub(super) struct Report<'a> {
    pub(super) arguments: &'a ExplainArgs,
    pub(super) config: &'a Config,
    pub(super) listener: usize,
    pub(super) explanation: &'a Explanation,
}

impl Report<'_> {
    fn route(&self) -> Option<&RouteConfig> {
        let index = self.explanation.route?;
        self.config.routes.get(index)
    }

    fn listener(&self) -> &str {
        let listener = self.config.listeners.get(self.listener);
        listener.map_or("", |listener| &listener.name)
    }

    pub(super) fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Explanation {
            client,
            path,
            passed,
            end,
            ..
        } = self.explanation;
        let from = self.arguments.from;
        writeln!(out, "listener   {}, from {from}", self.listener())?;
        if *client != from.to_canonical() {
            writeln!(out, "client     {client}, as the trusted proxy says")?;
        }
        if let Some(path) = path {
            writeln!(out, "path       {path}")?;
        }
        for reason in passed {
            writeln!(out, "counted    {reason}, which refuses nothing yet")?;
        }
        match self.route() {
            Some(route) => writeln!(out, "route      {}", route.name)?,
            None => writeln!(out, "route      none")?,
        }
        self.write_lost(out)?;
        if let Some(route) = self.route() {
            self.write_filters(route, out)?;
        }
        self.write_end(end, out)
    }

    fn write_lost(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut elsewhere: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, lost) in &self.explanation.lost {
            let Some(route) = self.config.routes.get(*index) else {
                continue;
            };
            let counted = match lost {
                Lost::Host => "for other hosts",
                Lost::Path => "for other paths",
                Lost::Unmet(_) | Lost::LessSpecific => "",
            };
            if counted.is_empty() || self.arguments.verbose {
                writeln!(out, "  not      {}: {}", route.name, self.why(route, *lost))?;
            } else {
                *elsewhere.entry(counted).or_default() += 1;
            }
        }
        for (what, count) in elsewhere {
            let routes = if count == 1 { "route" } else { "routes" };
            writeln!(out, "  not      {count} {routes} {what}")?;
        }
        Ok(())
    }

    /// Why a route does not serve the request.
    fn why(&self, route: &RouteConfig, lost: Lost) -> String {
        let conditions = &route.conditions;
        match lost {
            Lost::Host => "it is for other hosts".into(),
            Lost::Path => "it is for other paths".into(),
            Lost::LessSpecific => "it would, but is less specific".into(),
            Lost::Unmet(Unmet::Method) => {
                let methods = conditions.methods.join(", ");
                format!(
                    "the method {} is none of {methods}",
                    self.arguments.request.method
                )
            }
            Lost::Unmet(Unmet::Header(number)) => match conditions.headers.get(number) {
                Some(header) => match &header.value {
                    ValuePattern::Exact(value) => {
                        format!("no header {} is \"{value}\"", header.name)
                    }
                    ValuePattern::Regex(pattern) => {
                        format!("no header {} matches \"{}\"", header.name, pattern.text())
                    }
                },
                None => "a header is missing".into(),
            },
            Lost::Unmet(Unmet::Query(number)) => match conditions.query.get(number) {
                Some((name, value)) => format!("no query parameter {name} is \"{value}\""),
                None => "a query parameter is missing".into(),
            },
            Lost::Unmet(Unmet::ClientNetwork) => {
                let client = self.explanation.client;
                format!("the client {client} is in none of its networks")
            }
        }
    }

    fn write_filters(&self, route: &RouteConfig, out: &mut dyn Write) -> io::Result<()> {
        for &index in &route.network_lists {
            let said = match self.network(index) {
                Some(NetworkOutcome::Allowed) => "allowed",
                Some(NetworkOutcome::ShadowDenied) => "denied, in shadow mode",
                Some(NetworkOutcome::Denied) => "denied",
                None => "not asked",
            };
            writeln!(out, "networks   {}: {said}", self.network_list(index))?;
        }
        for (counter, outcome) in &self.explanation.filters {
            let (kind, name) = self.filter(*counter);
            let said = outcome.name().replace('_', " ");
            writeln!(out, "{kind:<10} {name}: {said}")?;
        }
        if !route.access.auth.is_empty() {
            let names = self.authenticators(route).join(", ");
            let optional = if route.access.optional {
                ", optional"
            } else {
                ""
            };
            let caller = match &self.explanation.caller {
                Some(Known { name, groups, plan }) => {
                    let groups = if groups.is_empty() {
                        String::new()
                    } else {
                        format!(", groups {}", groups.join(" "))
                    };
                    let plan = plan.as_ref().map(|plan| format!(", plan {plan}"));
                    format!("{name}{groups}{}", plan.unwrap_or_default())
                }
                None => "unknown".into(),
            };
            writeln!(out, "auth       {names}{optional}; caller {caller}")?;
            self.write_keys(route, out)?;
            if let Some((name, upstream, line)) = self.asks() {
                writeln!(
                    out,
                    "asks       {name}, by {line} to {upstream}; supposed that it lets in"
                )?;
            }
        }
        for &index in &route.limits {
            let asks = self
                .explanation
                .limits
                .iter()
                .find(|asks| asks.limit == index);
            let said = match asks {
                None => "not asked".into(),
                Some(Asks { policy: None, .. }) => "off".into(),
                Some(
                    asks @ Asks {
                        policy: Some(policy),
                        ..
                    },
                ) => {
                    let shadow = if asks.is_shadow {
                        ", in shadow mode"
                    } else {
                        ""
                    };
                    format!("{policy} by {}{shadow}", self.key(asks))
                }
            };
            writeln!(out, "limit      {}: {said}", self.limit(index))?;
        }
        Ok(())
    }

    /// Where keys of the route's authenticators come from that are not here.
    fn write_keys(&self, route: &RouteConfig, out: &mut dyn Write) -> io::Result<()> {
        let named = route.access.auth.iter();
        for &index in named {
            let Some((name, url)) = self.fetched_keys(index) else {
                continue;
            };
            let supposed = match self.explanation.supposed.contains(&index) {
                true => {
                    "; supposed that its issuer made the token. Without keys a gateway answers 503, token_keys_missing"
                }
                false => "",
            };
            writeln!(
                out,
                "keys       {name}: fetched from {url} by a running gateway, and not here{supposed}"
            )?;
        }
        Ok(())
    }

    fn write_end(&self, end: &End, out: &mut dyn Write) -> io::Result<()> {
        match end {
            End::Refused {
                status,
                reason,
                answer,
            } => {
                match status {
                    Some(status) => writeln!(out, "refused    {status}, {reason}")?,
                    None => writeln!(out, "refused    {reason}, without an answer")?,
                }
                if let Some(name) = status.and_then(|status| self.error_bodies(status)) {
                    writeln!(out, "body       of error_bodies.{name}")?;
                }
                write_message(answer, out)
            }
            End::Answered { status, answer } => {
                writeln!(out, "answered   {status}, by the gateway itself")?;
                write_message(answer, out)
            }
            End::Forwarded {
                upstreams,
                head,
                upgrade,
                added,
                removed,
            } => {
                for (index, weight) in upstreams {
                    let upstream = self.config.upstreams.get(*index);
                    let name = upstream.map_or("", |upstream| &upstream.name);
                    match upstreams.len() {
                        1 => writeln!(out, "upstream   {name}")?,
                        _ => {
                            let total: u64 = upstreams.iter().map(|(_, w)| u64::from(*w)).sum();
                            writeln!(out, "upstream   {name}: {weight} of {total} requests")?;
                        }
                    }
                }
                if let Some(upgrade) = upgrade {
                    writeln!(out, "upgrade    {upgrade}")?;
                }
                writeln!(out, "which gets")?;
                write_message(head, out)?;
                if !removed.is_empty() {
                    writeln!(out, "response   without {}", removed.join(", "))?;
                }
                if !added.is_empty() {
                    writeln!(out, "response   with")?;
                    write_message(added, out)?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let Explanation {
            client,
            path,
            passed,
            lost,
            networks,
            filters,
            caller,
            limits,
            end,
            ..
        } = self.explanation;
        let filters = filters.iter().map(|(counter, outcome)| {
            let (kind, name) = self.filter(*counter);
            json!({ "kind": kind, "name": name, "outcome": outcome.name() })
        });
        let lost = lost.iter().filter_map(|(index, lost)| {
            let route = self.config.routes.get(*index)?;
            Some(json!({ "route": route.name, "why": self.why(route, *lost), "kind": kind(*lost) }))
        });
        let route = self.route();
        let networks = networks.iter().map(|(index, outcome)| {
            json!({ "list": self.network_list(*index), "outcome": outcome.name() })
        });
        let limits = limits.iter().map(|asks| {
            json!({
                "limit": self.limit(asks.limit),
                "policy": asks.policy,
                "shadow": asks.is_shadow,
                "key": self.key(asks),
            })
        });
        let auth = route.map_or(&[][..], |route| &route.access.auth);
        let fetched = auth.iter().filter_map(|&index| {
            let (name, url) = self.fetched_keys(index)?;
            let supposed = self.explanation.supposed.contains(&index);
            Some(json!({ "authenticator": name, "url": url, "supposed": supposed }))
        });
        json!({
            "listener": self.listener(),
            "client": client,
            "path": path,
            "counted_only": passed,
            "route": route.map(|route| &route.name),
            "lost": lost.collect::<Vec<_>>(),
            "network_lists": networks.collect::<Vec<_>>(),
            "filters": filters.collect::<Vec<_>>(),
            "authenticators": route.map_or_else(Vec::new, |route| self.authenticators(route)),
            "caller": caller.as_ref().map(|caller| {
                json!({ "name": caller.name, "groups": caller.groups, "plan": caller.plan })
            }),
            "asks": self.asks().map(|(name, upstream, line)| {
                json!({ "authenticator": name, "upstream": upstream, "request": line })
            }),
            "fetched_keys": fetched.collect::<Vec<_>>(),
            "limits": limits.collect::<Vec<_>>(),
            "end": self.end_to_json(end),
        })
    }

    fn end_to_json(&self, end: &End) -> Value {
        match end {
            End::Refused {
                status,
                reason,
                answer,
            } => {
                let body = status.and_then(|status| self.error_bodies(status));
                json!({ "refused": {
                    "status": status, "reason": reason, "error_bodies": body, "answer": shown(answer)
                } })
            }
            End::Answered { status, answer } => {
                json!({ "answered": { "status": status, "answer": shown(answer) } })
            }
            End::Forwarded {
                upstreams,
                head,
                upgrade,
                added,
                removed,
            } => {
                let upstreams = upstreams.iter().map(|(index, weight)| {
                    let upstream = self.config.upstreams.get(*index);
                    json!({ "upstream": upstream.map(|upstream| &upstream.name), "weight": weight })
                });
                json!({ "forwarded": {
                    "upstreams": upstreams.collect::<Vec<_>>(),
                    "head": shown(head),
                    "upgrade": upgrade,
                    "response_added": shown(added),
                    "response_removed": removed,
                } })
            }
        }
    }

    fn network(&self, list: usize) -> Option<NetworkOutcome> {
        let mut said = self.explanation.networks.iter();
        said.find(|(index, _)| *index == list)
            .map(|(_, outcome)| *outcome)
    }

    /// Where the body of a refusal with this status comes from, unless it is a problem document.
    fn error_bodies(&self, status: u16) -> Option<&str> {
        let of_route = self.route().and_then(|route| route.error_bodies);
        let listener = self.config.listeners.get(self.listener);
        let of_listener = listener.and_then(|listener| listener.error_bodies);
        let mut all = of_route.into_iter().chain(of_listener);
        all.find_map(|index| {
            let bodies = self.config.error_bodies.get(index)?;
            bodies.find(status).map(|_| &*bodies.name)
        })
    }

    fn network_list(&self, index: usize) -> &str {
        let list = self.config.network_lists.get(index);
        list.map_or("", |list| &list.name)
    }

    /// Kind and name of a filter.
    fn filter(&self, counter: usize) -> (&'static str, &str) {
        self.config.filter_names().nth(counter).unwrap_or_default()
    }

    fn limit(&self, index: usize) -> &str {
        let limit = self.config.limits.get(index);
        limit.map_or("", |limit| &limit.name)
    }

    fn authenticators(&self, route: &RouteConfig) -> Vec<&str> {
        let named = route.access.auth.iter();
        let named = named.filter_map(|&index| self.config.authenticators.get(index));
        named.map(|each| &*each.name).collect()
    }

    /// Name of an authenticator whose keys are fetched, and where.
    fn fetched_keys(&self, index: usize) -> Option<(&str, &str)> {
        let each = self.config.authenticators.get(index)?;
        Some((&each.name, each.key_url()?))
    }

    /// The authenticator elsewhere that would be asked, its upstream, and the line of the question.
    fn asks(&self) -> Option<(&str, &str, &str)> {
        let (index, line) = self.explanation.asks.as_ref()?;
        let each = self.config.authenticators.get(*index)?;
        let AuthenticatorKind::Forward(config) = &each.kind else {
            return None;
        };
        let upstream = self.config.upstreams.get(config.upstream)?;
        Some((&each.name, &upstream.name, line))
    }

    /// The parts of a limit's key with their values; of what may be a secret only that it is there.
    fn key(&self, asks: &Asks) -> String {
        let Some(limit) = self.config.limits.get(asks.limit) else {
            return String::new();
        };
        let parts = limit.key.iter().enumerate().map(|(number, part)| {
            let value = match asks.key.get(number) {
                Some(LabelPart::Address(address)) => address.to_string(),
                Some(LabelPart::Text(text)) => text.clone(),
                Some(LabelPart::Hidden(_)) => "its value".into(),
                Some(LabelPart::Several) => "(several)".into(),
                Some(LabelPart::Absent) => "(none)".into(),
                None => "...".into(),
            };
            format!("{part}={value}")
        });
        parts.collect::<Vec<_>>().join(" ")
    }
}

/// For programs.
fn kind(lost: Lost) -> &'static str {
    match lost {
        Lost::Host => "host",
        Lost::Path => "path",
        Lost::LessSpecific => "less_specific",
        Lost::Unmet(Unmet::Method) => "method",
        Lost::Unmet(Unmet::Header(_)) => "header",
        Lost::Unmet(Unmet::Query(_)) => "query",
        Lost::Unmet(Unmet::ClientNetwork) => "client_network",
    }
}

/// A message as it goes out, without what only the moment knows.
fn shown(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    text.replace("Date: \r\n", "")
}

fn write_message(message: &[u8], out: &mut dyn Write) -> io::Result<()> {
    for line in shown(message).trim_end().lines() {
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        writeln!(out, "  {line}")?;
    }
    Ok(())
}
