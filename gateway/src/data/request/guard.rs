//! What may refuse a request before anybody asks who calls, and the one wait there is when somebody does.
//!
//! Most routes ask for little of this: each step is a test where it is called, and a function for what it is about.

use limiter::Key;

use std::rc::Rc;
use std::sync::Arc;

use super::Scratch;
use super::decide::{Site, Understood, find_route, identify};
use crate::config::FilterMode;
use crate::data::auth::{Caller, Identity, Known, PASSWORD_WRONG, Verdict, Verified};
use crate::data::codec::{Method, RequestHead};
use crate::data::connection::Connection;
use crate::data::error::Error;
use crate::data::filter::cors::{CorsPlan, Target, wanted_method};
use crate::data::filter::networks;
use crate::data::forward;
use crate::data::log::Record;
use crate::data::plan::Plan;
use crate::data::route::{Asked, Captures};
use crate::data::verify::Job;
use crate::data::worker::Served;
use crate::telemetry::{AskOutcome, FilterOutcome};

/// Asks the lists of networks of a route, and counts what each says.
#[inline]
pub(in crate::data) fn ask_networks(site: &Site<'_>, understood: &Understood) -> Result<(), Error> {
    let lists = &site.plan.routes[understood.route].config.network_lists;
    if lists.is_empty() {
        return Ok(());
    }
    ask_lists(site, lists, understood)
}

#[inline(never)]
fn ask_lists(site: &Site<'_>, lists: &[usize], understood: &Understood) -> Result<(), Error> {
    let decided = |list, outcome| site.heard.network(list, outcome);
    networks::check(&site.plan.network_lists, lists, understood.client, decided)
}

/// Asks the listener's ban about a client, and counts what it says.
#[inline]
pub(super) fn ask_ban(site: &Site<'_>, client: Key, record: &Record) -> Result<(), Error> {
    match site.listener.config.ban {
        None => Ok(()),
        Some(ban) => ask_this_ban(site, ban, client, record),
    }
}

#[inline(never)]
fn ask_this_ban(site: &Site<'_>, ban: usize, client: Key, record: &Record) -> Result<(), Error> {
    let plan = site.plan;
    let ban = &plan.bans[ban];
    if ban.mode == FilterMode::Off {
        return Ok(());
    }
    let banned = ban.find(client, plan.limits_time(record.started));
    let enforced = ban.mode == FilterMode::Enforce;
    let outcome = match banned {
        None => FilterOutcome::Allowed,
        Some(_) if enforced => FilterOutcome::Denied,
        Some(_) => FilterOutcome::ShadowDenied,
    };
    site.heard.filter(ban.counter, outcome);
    match banned {
        Some(banned) if enforced => Err(Error::Banned(banned)),
        _ => Ok(()),
    }
}

/// Tells the listener's ban of a refusal.
#[cold]
pub(super) fn count_refusal(connection: &Connection, plan: &Plan, record: &Record, error: &Error) {
    let ban = connection.listener.config.ban.map(|ban| &plan.bans[ban]);
    let Some(ban) = ban.filter(|ban| ban.mode != FilterMode::Off && ban.counts(error.end())) else {
        return;
    };
    // Of whom a proxy has told nothing: all of its clients are not to pay for one.
    if plan.trusted_proxies.contains(record.client) {
        return;
    }
    let client = if record.client == connection.client() {
        connection.client_key
    } else {
        let prefix = plan.client_ip.ipv6_prefix;
        plan.hasher.address(record.client, prefix)
    };
    if ban.count(client, plan.limits_time(record.started)) {
        let metrics = &connection.worker.metrics;
        metrics.filter_decided(ban.counter, FilterOutcome::Banned);
    }
}

/// Whether the listener serves the host of a request.
#[inline]
pub(super) fn check_host(site: &Site<'_>, host: &[u8]) -> Result<(), Error> {
    if site.listener.hosts.holds(host) {
        return Ok(());
    }
    refuse_host(site)
}

#[cold]
fn refuse_host(site: &Site<'_>) -> Result<(), Error> {
    let error = Error::HostUnlisted;
    if site.listener.counts_only(error.name()) {
        site.heard.passed(error.name());
        return Ok(());
    }
    Err(error)
}

/// As the route table is asked: a preflight is about the request that a page is going to make, so it is for the route of
/// that, where that route has a policy.
#[inline]
pub(super) fn as_wanted<'a>(
    site: &Site<'_>,
    asked: Asked<'a>,
    request: &RequestHead,
    captures: &mut Captures,
) -> Asked<'a> {
    if !site.plan.answers_preflights || request.method != Method::Options {
        return asked;
    }
    as_preflight(site, asked, captures)
}

#[inline(never)]
fn as_preflight<'a>(site: &Site<'_>, asked: Asked<'a>, captures: &mut Captures) -> Asked<'a> {
    let Some(wanted) = wanted_method(asked.head, asked.fields) else {
        return asked;
    };
    let preflight = Asked {
        method: site.plan.table.method(wanted),
        ..asked
    };
    match find_route(site, &preflight, captures, &mut ()) {
        Ok(route) if site.plan.routes[route].enforced_cors().is_some() => preflight,
        _ => asked,
    }
}

/// Asks the policy of a route for pages of other origins. True: it is a preflight that gets its answer here.
#[inline]
pub(in crate::data) fn ask_cors(
    site: &Site<'_>,
    scratch: &Scratch,
    understood: &Understood,
    record: &mut Record,
) -> Result<bool, Error> {
    match &site.plan.routes[understood.route].cors {
        None => Ok(false),
        Some(cors) => ask_policy(site, cors, scratch, understood, record),
    }
}

#[inline(never)]
fn ask_policy(
    site: &Site<'_>,
    cors: &CorsPlan,
    scratch: &Scratch,
    understood: &Understood,
    record: &mut Record,
) -> Result<bool, Error> {
    let (head, request) = (scratch.head.data(), &understood.request);
    let authority = request.authority.map(|authority| authority.of(head));
    let target = Target {
        is_options: request.method == Method::Options,
        authority: authority.unwrap_or_default(),
    };
    let Some(verdict) = cors.judge(head, &scratch.fields, target) else {
        return Ok(false);
    };
    let enforced = cors.mode == FilterMode::Enforce;
    let outcome = match verdict.denied {
        None => FilterOutcome::Allowed,
        Some(_) if enforced => FilterOutcome::Denied,
        Some(_) => FilterOutcome::ShadowDenied,
    };
    site.heard.filter(cors.counter, outcome);
    if !enforced {
        return Ok(false);
    }
    record.cors = verdict.reply;
    match verdict.denied {
        // A request that needs no preflight is made whether or not its answer may be read: that it is not is all there is.
        Some(reason) if verdict.reply.preflight => Err(Error::Forbidden(reason)),
        _ => Ok(verdict.reply.preflight),
    }
}

/// Asks the filters of a route, and counts what each says. None of them is asked after a refusal.
#[inline]
pub(in crate::data) fn ask_filters(
    site: &Site<'_>,
    scratch: &Scratch,
    understood: &Understood,
) -> Result<(), Error> {
    match &*site.plan.routes[understood.route].config.filters.filters {
        [] => Ok(()),
        filters => ask_each_filter(site, filters, scratch, understood),
    }
}

#[inline(never)]
fn ask_each_filter(
    site: &Site<'_>,
    filters: &[usize],
    scratch: &Scratch,
    understood: &Understood,
) -> Result<(), Error> {
    for &index in filters {
        let filter = &site.filters[index];
        if filter.mode == FilterMode::Off {
            continue;
        }
        let found = filter.check(scratch.head.data(), &scratch.fields, &understood.request);
        let outcome = match (found, filter.mode) {
            (Ok(()), _) => FilterOutcome::Allowed,
            (Err(_), FilterMode::Enforce) => FilterOutcome::Denied,
            (Err(_), _) => FilterOutcome::ShadowDenied,
        };
        site.heard.filter(filter.counter, outcome);
        if let (Err(refused), FilterOutcome::Denied) = (found, outcome) {
            return Err(Error::Filtered(index, refused));
        }
    }
    Ok(())
}

/// As [`identify`], where an authenticator has to be waited for, `by` first: it verifies a password or has keys fetched, which is
/// left to other threads, or asks elsewhere. Meanwhile this worker serves others.
pub(super) async fn identify_verified(
    connection: &mut Connection,
    served: &Served,
    scratch: &mut Scratch,
    record: &mut Record,
    (understood, now, mut by): (&Understood, u64, usize),
) -> Result<Option<Caller>, Error> {
    // Answers to requests before this one must not wait for that.
    connection.writer.flush().await?;
    loop {
        let plan = &served.plan.authenticators[by];
        let verdict = if let Known::Elsewhere(config) = &plan.known {
            let asked = (plan, &**config);
            let verdict = forward::ask(connection, served, scratch, record, asked).await?;
            count(connection, (by, config.lets_in), &verdict);
            verdict
        } else {
            // It is where the authenticator has put it.
            let credential = std::mem::take(&mut scratch.key_part);
            let identity = if served.tables.waits_for_keys(by) {
                Ok(with_newer_keys(served, by, &credential, now).await)
            } else {
                let right = verify(served, by, &credential).await;
                right.map(|identity| identity.ok_or(PASSWORD_WRONG))
            }?;
            scratch.key_part = credential;
            identity.map_or_else(Verdict::Wrong, Verdict::Is)
        };
        // A route has no more authenticators than this holds, and none is asked for twice.
        let _full = scratch.verified.try_push(Verified { by, verdict });
        match identify(&served.plan, &served.tables, scratch, understood, now) {
            Err(Error::Unverified(next)) if next != by => by = next,
            Err(Error::Unverified(_)) => return Err(Error::PasswordsBusy),
            Ok(None) => {
                record.unjudged = scratch.verified.iter().find_map(|each| match each.verdict {
                    Verdict::Silent(reason) => Some(reason),
                    _ => None,
                });
                return Ok(None);
            }
            caller => return caller,
        }
    }
}

/// Whose token this is by the authenticator `by`, once its keys have been fetched, or cannot be now.
async fn with_newer_keys(
    served: &Served,
    by: usize,
    credential: &[u8],
    now: u64,
) -> Result<Rc<Identity>, &'static str> {
    served.plan.key_asks.wait(by).await;
    let plans = &served.plan.authenticators;
    served.tables.refresh(plans);
    served.tables.judge_again((by, &plans[by]), credential, now)
}

/// Counts what an authenticator elsewhere said. `lets_in`: it does so unjudged.
fn count(connection: &Connection, (by, lets_in): (usize, bool), verdict: &Verdict) {
    let outcome = match verdict {
        Verdict::Is(_) => AskOutcome::Allowed,
        Verdict::Silent(_) if lets_in => AskOutcome::FailedOpen,
        Verdict::Silent(_) => AskOutcome::Failed,
        Verdict::Wrong(_) | Verdict::Refused(_) | Verdict::Forbidden(_) => AskOutcome::Denied,
    };
    connection.worker.metrics.asked(by, outcome);
}

/// Whose credential this is, by the authenticator `by`; `None`: nobody's.
async fn verify(
    served: &Served,
    by: usize,
    credential: &[u8],
) -> Result<Option<Rc<Identity>>, Error> {
    let Some(unverified) = served.tables.unverified(by, credential) else {
        return Ok(None);
    };
    let (answer, answered) = flume::bounded(1);
    let (table, user) = (Arc::clone(&unverified.table), unverified.user.clone());
    let job = Job {
        table: unverified.table,
        user: unverified.user,
        password: unverified.password,
        answer,
    };
    if !served.plan.verifications.leave(job) {
        return Err(Error::PasswordsBusy);
    }
    // No answer: the thread died on it.
    let is_right = answered.recv_async().await.unwrap_or(false);
    let plan = (by, &served.plan.authenticators[by]);
    Ok(is_right.then(|| served.tables.remember(plan, &table, credential, &user)))
}
