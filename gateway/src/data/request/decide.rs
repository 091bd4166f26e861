//! What a request is to a plan: the steps from its head to its route, and what that does with it. Does not wait.

use std::net::IpAddr;

use limiter::Key;

use super::{Decision, Scratch, guard};
use crate::config::{Action, PathPolicy, RouteConfig};
use crate::data::auth::{self, Caller, Denied, Identity, Tables};
use crate::data::client::{self, Peer};
use crate::data::codec::{
    BodyFraming, Edits, FieldKind, Fields, Normalised, RequestError, RequestHead, TargetForm,
    check_query, host_of, most_generous_form, normalise_path, parse_request,
};
use crate::data::edit::{self, Variables};
use crate::data::error::Error;
use crate::data::filter::key::Subject;
use crate::data::filter::rules::FilterPlan;
use crate::data::filter::security_headers::Present;
use crate::data::log::Record;
use crate::data::page::{self, Page};
use crate::data::plan::{ListenerPlan, Plan};
use crate::data::route::{Asked, Captures, Matchers, Methods, Watch};
use crate::telemetry::{FilterOutcome, NetworkOutcome};

/// Hears what is decided about a request before its limits are asked.
pub(in crate::data) trait Heard {
    /// A rule was broken that the listener only counts.
    fn passed(&self, reason: &'static str);
    /// A list of networks, by its index, was asked.
    fn network(&self, list: usize, outcome: NetworkOutcome);
    /// A filter, by the number of its counter, was asked.
    fn filter(&self, counter: usize, outcome: FilterOutcome);
}

/// Where a request came in.
pub(in crate::data) struct Site<'a> {
    pub(in crate::data) plan: &'a Plan,
    pub(in crate::data) matchers: &'a Matchers,
    pub(in crate::data) filters: &'a [FilterPlan],
    pub(in crate::data) listener: &'a ListenerPlan,
    pub(in crate::data) peer: Peer<'a>,
    pub(in crate::data) heard: &'a dyn Heard,
}

/// A request whose route is known.
pub(in crate::data) struct Understood {
    pub(in crate::data) request: RequestHead,
    pub(in crate::data) route: usize,
    /// By which its path is in its one form.
    policy: PathPolicy,
    pub(in crate::data) client: IpAddr,
    client_key: Key,
}

/// Steps 1 to 3; `None`: OPTIONS that may go no further. `watch` sees how the route is found.
pub(in crate::data) fn understand(
    site: &Site<'_>,
    scratch: &mut Scratch,
    record: &mut Record,
    watch: &mut impl Watch,
) -> Result<Option<Understood>, Error> {
    let plan = site.plan;
    let Scratch {
        head,
        fields,
        path: normal,
        told,
        rewritten,
        host,
        generous,
        captures,
        ..
    } = scratch;
    let head = head.data();
    let request = parse_request(head, &site.listener.rules, fields).map_err(Error::Request)?;
    record.request = Some(request);
    let (client, client_key) = client::find(&site.peer, plan, head, fields, told);
    record.client = client;
    guard::ask_ban(site, client_key, record)?;

    if request.max_forwards == Some(0) {
        return Ok(None);
    }
    count_underscores(site, fields);
    rewritten.clear();
    let (path, policy) = read_target(site, &request, head, normal)?;

    host.clear();
    if let Some(authority) = request.authority {
        host.extend(
            host_of(authority.of(head))
                .iter()
                .map(u8::to_ascii_lowercase),
        );
    }
    guard::check_host(site, host)?;
    let asked = Asked {
        host,
        path,
        query: request.query.map(|query| query.of(head)),
        method: plan.table.method(request.method_span.of(head)),
        client,
        head,
        fields,
    };
    let asked = guard::as_wanted(site, asked, &request, captures);
    let route = find_route(site, &asked, captures, watch)?;
    if !request.plain_path {
        check_readings(site, policy, route, &asked, generous)?;
    }
    record.route = Some(route);
    Ok(Some(Understood {
        request,
        route,
        policy,
        client,
        client_key,
    }))
}

/// The request as the route table sees it, once [`understand`] has come to the table.
pub(in crate::data) fn asked<'a>(
    plan: &Plan,
    scratch: &'a Scratch,
    request: &RequestHead,
    client: IpAddr,
) -> Asked<'a> {
    let head = scratch.head.data();
    Asked {
        host: &scratch.host,
        path: scratch.path(request),
        query: request.query.map(|query| query.of(head)),
        method: plan.table.method(request.method_span.of(head)),
        client,
        head,
        fields: &scratch.fields,
    }
}

/// Whether the head and what is said of the body are within the route's bounds.
pub(in crate::data) fn check_sizes(
    route: &RouteConfig,
    head: &[u8],
    request: &RequestHead,
) -> Result<(), Error> {
    if route
        .max_head
        .is_some_and(|most| head.len() > most as usize)
    {
        return Err(Error::HeadTooLarge);
    }
    if let (BodyFraming::Length(length), Some(most)) = (request.framing, route.max_body)
        && length > most
    {
        return Err(Error::BodyTooLarge);
    }
    Ok(())
}

/// The request as limits see it.
#[inline]
pub(in crate::data) fn subject<'a>(
    plan: &'a Plan,
    scratch: &'a Scratch,
    understood: &Understood,
    caller: Option<&'a Identity>,
) -> Subject<'a> {
    let config = &plan.routes[understood.route].config;
    let head = scratch.head.data();
    let request = &understood.request;
    Subject {
        hasher: &plan.hasher,
        client: understood.client,
        client_key: understood.client_key,
        head,
        fields: &scratch.fields,
        host: &scratch.host,
        path: scratch.path(request),
        query: request.query.map(|query| query.of(head)),
        route: &config.name,
        // Who has no name was let in as nobody.
        caller: caller.filter(|caller| !caller.name.is_empty()),
        ignore_case: config.ignore_case,
    }
}

/// What the route does with a request that nothing refused; its path as the upstream will see it.
/// `share`: a number below the total of a split's weights.
pub(in crate::data) fn take_action(
    site: &Site<'_>,
    scratch: &mut Scratch,
    understood: &Understood,
    record: &Record,
    share: impl FnOnce(u64) -> u64,
) -> Result<Decision, Error> {
    let &Understood {
        ref request,
        route,
        policy,
        ..
    } = understood;
    let config = &site.plan.routes[route].config;
    let upstream = match &config.action {
        Action::Upstream(upstream) => *upstream,
        Action::Split(parts) => {
            let total = parts.iter().map(|part| u64::from(part.weight)).sum();
            let mut share = share(total);
            let mut parts = parts.iter();
            let chosen = parts.find(|part| {
                let weight = u64::from(part.weight);
                let found = share < weight;
                share = share.saturating_sub(weight);
                found
            });
            // The weights add up to more than the share.
            chosen.map_or(0, |part| part.upstream)
        }
        Action::Respond(_) => return Ok(Decision::Respond { route }),
        Action::Redirect(redirect) => {
            let mut out = std::mem::take(&mut scratch.rewritten);
            let variables = scratch.variables(request, record, &config.name);
            let done = variables.put_location(&redirect.to, redirect.with_query, &mut out);
            scratch.rewritten = out;
            done?;
            let status = redirect.status;
            return Ok(Decision::Redirect { status });
        }
    };
    if let Some(rewrite) = &config.rewrite.path {
        let mut out = std::mem::take(&mut scratch.rewritten);
        let mut buffer = std::mem::take(&mut scratch.generous);
        let variables = scratch.variables(request, record, &config.name);
        let done = edit::rewrite_path(rewrite, &variables, policy, &mut buffer, &mut out);
        (scratch.rewritten, scratch.generous) = (out, buffer);
        done?;
    }
    Ok(Decision::Forward { upstream })
}

pub(super) fn find_route(
    site: &Site<'_>,
    asked: &Asked<'_>,
    captures: &mut Captures,
    watch: &mut impl Watch,
) -> Result<usize, Error> {
    let table = &site.plan.table;
    let found = table.find(asked, site.matchers, captures, watch);
    found.map_err(|methods: Methods| {
        if methods.is_empty() {
            Error::NoRoute
        } else {
            Error::MethodNotAllowed(methods)
        }
    })
}

/// As [`check_other_readings`], but for a listener that only counts what strict refuses.
fn check_readings(
    site: &Site<'_>,
    policy: PathPolicy,
    route: usize,
    asked: &Asked<'_>,
    generous: &mut Vec<u8>,
) -> Result<(), Error> {
    let checked = check_other_readings(site, policy, route, asked, generous);
    if let Err(error) = &checked
        && site.listener.counts_only(error.name())
        && check_other_readings(site, PathPolicy::Standard, route, asked, generous).is_ok()
        && may_pass(site, policy, error)
    {
        return Ok(());
    }
    checked
}

/// Refuses a path that a generous upstream could read as one that another route takes: in strict policy whatever
/// that route is, otherwise if it denies.
fn check_other_readings(
    site: &Site<'_>,
    policy: PathPolicy,
    route: usize,
    asked: &Asked<'_>,
    generous: &mut Vec<u8>,
) -> Result<(), Error> {
    let (plan, path) = (site.plan, asked.path);
    // Without any of these every reading is the same, but for case.
    let plain = !path.iter().any(|byte| matches!(byte, b'%' | b'\\' | b';'))
        && !path.windows(2).any(|pair| pair == b"//");
    if plain {
        return Ok(());
    }
    most_generous_form(path, false, generous);
    let asked = Asked {
        path: generous,
        ..*asked
    };
    let mut captures = Captures::default();
    let found = plan
        .table
        .find(&asked, site.matchers, &mut captures, &mut ());
    let other = found.ok();
    let harmless = other == Some(route)
        || policy == PathPolicy::Standard && !other.is_some_and(|other| plan.routes[other].denies);
    if harmless {
        Ok(())
    } else {
        Err(Error::AmbiguousPath)
    }
}

/// The path in its one form, and the policy by which it is that: of a strict listener the standard one where a rule that is
/// only counted was broken. `normal` is scratch. The query is checked too.
fn read_target<'a>(
    site: &Site<'_>,
    request: &RequestHead,
    head: &'a [u8],
    normal: &'a mut Vec<u8>,
) -> Result<(&'a [u8], PathPolicy), Error> {
    normal.clear();
    let mut policy = site.listener.config.path_policy;
    let sent = request.path.of(head);
    let mut done = Ok(Normalised::AsIs);
    if !request.plain_path && request.form != TargetForm::Asterisk {
        done = normalise_path(sent, policy, normal);
        if let Err(error) = done
            && may_pass(site, policy, &Error::Path(error))
        {
            policy = PathPolicy::Standard;
            done = normalise_path(sent, policy, normal);
        }
    }
    let done = done.map_err(Error::Path)?;
    if let Some(query) = request.query {
        let query = query.of(head);
        let mut checked = check_query(query, policy);
        if let Err(error) = checked
            && may_pass(site, policy, &Error::Path(error))
        {
            checked = check_query(query, PathPolicy::Standard);
        }
        checked.map_err(Error::Path)?;
    }
    let path = match (request.form, done) {
        (TargetForm::Asterisk, _) => &b"/"[..],
        (_, Normalised::Rewritten) => &*normal,
        (_, Normalised::AsIs) => {
            normal.clear();
            sent
        }
    };
    Ok((path, policy))
}

/// Whether a rule of the strict policy was broken that the listener only counts; counts it then.
#[cold]
fn may_pass(site: &Site<'_>, policy: PathPolicy, error: &Error) -> bool {
    let may = policy == PathPolicy::Strict && site.listener.counts_only(error.name());
    if may {
        site.heard.passed(error.name());
    }
    may
}

/// Names with `_` are for the listener to refuse; here those that it only counts.
#[inline]
fn count_underscores(site: &Site<'_>, fields: &Fields) {
    if !site.listener.config.count_only.is_empty() {
        count_each_underscore(site, fields);
    }
}

#[inline(never)]
fn count_each_underscore(site: &Site<'_>, fields: &Fields) {
    let error = Error::Request(RequestError::FieldUnderscore);
    if site.listener.counts_only(error.name())
        && fields
            .iter()
            .any(|field| field.kind == FieldKind::Underscore)
    {
        site.heard.passed(error.name());
    }
}

/// Asks the authenticators of a route who calls; takes the credentials out.
pub(in crate::data) fn identify(
    plan: &Plan,
    tables: &Tables,
    scratch: &mut Scratch,
    understood: &Understood,
    now: u64,
) -> Result<Option<Caller>, Error> {
    let access = &plan.routes[understood.route].config.access;
    let plans = &plan.authenticators;
    let Scratch {
        head,
        fields,
        key_part,
        taken_out,
        verified,
        ..
    } = scratch;
    let head = head.data();
    let query = understood.request.query.map(|query| query.of(head));
    let asked = auth::Request {
        head,
        fields,
        query,
        now,
        verified,
    };
    let caller = auth::authenticate(access, plans, tables, &asked, key_part);
    // Whatever came of it: a credential is nothing for a log.
    auth::take_out(access, plans, head, fields, query, taken_out);
    caller
}

/// What a 401 asks for, and what there is in place of what a filter refused.
pub(in crate::data) fn challenges(plan: &Plan, record: &Record, error: &Error) -> Vec<u8> {
    match (error, record.route) {
        (Error::Unauthorized(denied), Some(route)) => {
            let access = &plan.routes[route].config.access;
            auth::challenges(access, &plan.authenticators, *denied, None)
        }
        // What else than the authenticator that was asked would let it in; RFC 9110, 15.5.2 asks for one in any case.
        (Error::AuthRefused(401, refusal), Some(route)) => {
            let access = &plan.routes[route].config.access;
            let (plans, refusal) = (&plan.authenticators, Some(&**refusal));
            auth::challenges(access, plans, Denied::NOTHING, refusal)
        }
        (&Error::Filtered(filter, refused), _) => plan.filters[filter].lines(refused).to_vec(),
        _ => Vec::new(),
    }
}

/// What the route or the listener says of an error in place of a problem document, if anything.
pub(in crate::data) fn page<'a>(
    plan: &'a Plan,
    listener: &ListenerPlan,
    (scratch, record): (&Scratch, &Record),
    (status, error): (u16, &Error),
) -> Option<Page<'a>> {
    if plan.error_bodies.is_empty() {
        return None;
    }
    let route = record.route.map(|route| &plan.routes[route].config);
    let of_route = route.and_then(|route| route.error_bodies);
    let body = page::find(
        &plan.error_bodies,
        [of_route, listener.config.error_bodies],
        status,
    )?;
    // Before the route table is asked, host and path in the scratch may be what another request has left there.
    let is_understood = route.is_some()
        || matches!(
            error,
            Error::NoRoute | Error::MethodNotAllowed(_) | Error::AmbiguousPath
        );
    let variables = match record.request.filter(|_| is_understood) {
        Some(request) => {
            let name = route.map_or("", |route| &route.name);
            scratch.variables(&request, record, name)
        }
        None => Variables::unknown(&record.request_id, &scratch.captures),
    };
    Some(page::write(body, &variables, status, error.name()))
}

/// What the route of a request changes of the fields of an answer that the gateway gives itself.
pub(in crate::data) fn own_edits<'a>(
    plan: &'a Plan,
    scratch: &'a mut Scratch,
    record: &Record,
    present: Present<'_>,
) -> Edits<'a> {
    let Some(route) = record.route.map(|route| &plan.routes[route]) else {
        return Edits::NONE;
    };
    scratch.put_response_lines(route, record, present);
    Edits {
        lines: &scratch.lines,
        removed: route.response_headers.removed(),
    }
}
