//! One request taken through the steps that do not wait again and again, each by itself, so that benchmarks can say what it
//! costs. Says nothing of what comes of it, as `explain` does; makes no connection.

use std::cell::Cell;

use runtime::Buf;

use super::auth::{Caller, Tables};
use super::client::Peer;
use super::codec::{
    BodyFraming, Edits, ForwardResponse, Method, RequestContext, ResponseHead, Version,
    parse_response, write_response_head,
};
use super::error::Error;
use super::explain::{Question, verify_at_once};
use super::filter::limit;
use super::filter::rules::FilterPlan;
use super::filter::security_headers::Present;
use super::forward::Outgoing;
use super::log::Record;
use super::plan::{Plan, client_of};
use super::request::{
    Decision, Heard, Scratch, Site, Understood, ask_cors, ask_filters, ask_networks, check_sizes,
    identify, subject, take_action, understand,
};
use super::route::Matchers;
use crate::config::{ROUTE_AUTH_MAX, ResponseFaults};
use crate::telemetry::{FilterOutcome, NetworkOutcome};

/// A step, or what belongs together of one, in the order of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The head is read, its path brought to the one form, bans and hosts asked, and the route found.
    Understand,
    /// Lists of networks.
    Networks,
    /// The policy for pages of other origins.
    Cors,
    /// What requests must be like.
    Filters,
    /// Who calls, and taking the credentials out.
    Identify,
    /// Limits.
    Limits,
    /// What the route does, and rewriting of the path.
    Action,
    /// Writing the head for the upstream.
    Request,
    /// Reading and writing the head of its response.
    Response,
}

impl Step {
    /// All, in their order.
    pub const ALL: [Self; 9] = [
        Self::Understand,
        Self::Networks,
        Self::Cors,
        Self::Filters,
        Self::Identify,
        Self::Limits,
        Self::Action,
        Self::Request,
        Self::Response,
    ];
}

/// What the upstream answers.
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: upstream\r\nDate: Wed, 25 Nov 2026 10:00:00 GMT\r\n\
    Content-Type: application/json\r\nX-Powered-By: something\r\nContent-Length: 128\r\n\r\n";

const RESPONSE_FIELDS_MAX: u16 = 128;

/// A request, and what a worker has to serve it with.
pub struct Rehearsal<'a> {
    plan: &'a Plan,
    question: Question<'a>,
    matchers: Matchers,
    filters: Vec<FilterPlan>,
    tables: Tables,
    client: String,
    scratch: Scratch,
    record: Record,
    understood: Option<Understood>,
    counts: Counts,
}

impl std::fmt::Debug for Rehearsal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rehearsal")
            .field("question", &self.question)
            .finish_non_exhaustive()
    }
}

/// As counters of metrics: stores, and nothing else.
#[derive(Default)]
struct Counts([Cell<u64>; 3]);

impl Heard for Counts {
    fn passed(&self, _reason: &'static str) {
        self.0[0].set(self.0[0].get().wrapping_add(1));
    }

    fn network(&self, _list: usize, _outcome: NetworkOutcome) {
        self.0[1].set(self.0[1].get().wrapping_add(1));
    }

    fn filter(&self, _counter: usize, _outcome: FilterOutcome) {
        self.0[2].set(self.0[2].get().wrapping_add(1));
    }
}

impl<'a> Rehearsal<'a> {
    /// With memory of its own, as a worker has it.
    #[must_use]
    pub fn new(plan: &'a Plan, question: Question<'a>) -> Self {
        let client = client_of(question.peer);
        let mut scratch = Scratch::default();
        scratch.head = Buf::copy_of(question.head);
        Self {
            plan,
            question,
            matchers: plan.table.matchers(),
            filters: plan.filters.clone(),
            tables: Tables::new(&plan.authenticators),
            client: client.to_string(),
            scratch,
            record: Record::new(question.at, [b'0'; 32], client),
            understood: None,
            counts: Counts::default(),
        }
    }

    /// Takes all steps in their order.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub fn take_all(&mut self) -> Result<(), &'static str> {
        Step::ALL.iter().try_for_each(|step| self.take(*step))
    }

    /// Takes a step; those before it have been taken once.
    ///
    /// # Errors
    ///
    /// The request ends here: why, as the log has it.
    pub fn take(&mut self, step: Step) -> Result<(), &'static str> {
        self.take_one(step).map_err(|error| error.name())
    }

    fn take_one(&mut self, step: Step) -> Result<(), Error> {
        let plan = self.plan;
        let site = Site {
            plan,
            matchers: &self.matchers,
            filters: &self.filters,
            listener: &plan.listeners[self.question.listener],
            peer: Peer {
                client: client_of(self.question.peer),
                key: plan
                    .hasher
                    .address(self.question.peer, plan.client_ip.ipv6_prefix),
                text: &self.client,
                trusted: plan.trusted_proxies.contains(self.question.peer),
            },
            heard: &self.counts,
        };
        let (scratch, record) = (&mut self.scratch, &mut self.record);
        if step == Step::Understand {
            scratch.taken_out.clear();
            self.understood = understand(&site, scratch, record, &mut ())?;
            return Ok(());
        }
        let understood = self.understood.as_ref().ok_or(Error::NoRoute)?;
        let route = &plan.routes[understood.route];
        match step {
            Step::Understand => {}
            Step::Networks => ask_networks(&site, understood)?,
            Step::Cors => {
                ask_cors(&site, scratch, understood, record)?;
            }
            Step::Filters => {
                ask_filters(&site, scratch, understood)?;
                check_sizes(&route.config, scratch.head.data(), &understood.request)?;
            }
            Step::Identify => {
                let now = self.question.unix_seconds;
                record.caller = match route.config.access.auth.is_empty() {
                    true => None,
                    false => whose(plan, &self.tables, scratch, understood, now)?,
                };
            }
            Step::Limits => {
                let mut buffer = std::mem::take(&mut scratch.key_part);
                let identity = record.caller.as_ref().map(Caller::identity);
                let subject = subject(plan, scratch, understood, identity);
                let now = plan.limits_time(record.started);
                let limits = &route.limits;
                let asked = limit::check(
                    &plan.limits,
                    limits,
                    &subject,
                    &mut buffer,
                    now,
                    |_decided, _buffer| {},
                );
                scratch.key_part = buffer;
                asked?;
            }
            Step::Action => {
                let decision = take_action(&site, scratch, understood, record, |_total| 0)?;
                debug_assert!(matches!(decision, Decision::Forward { .. }));
            }
            Step::Request => {
                let outgoing = Outgoing {
                    request: &understood.request,
                    route: Some(route),
                    listener: site.listener,
                    trusted: site.peer.trusted,
                    endpoint: "upstream",
                    upgrade: None,
                    names_consumers: !plan.authenticators.is_empty(),
                };
                std::hint::black_box(outgoing.write(scratch, record, None));
            }
            Step::Response => answer(plan, understood, scratch, record)?,
        }
        Ok(())
    }
}

/// Who calls. Verifies a password at the first time; a worker remembers it from then on.
fn whose(
    plan: &Plan,
    tables: &Tables,
    scratch: &mut Scratch,
    understood: &Understood,
    now: u64,
) -> Result<Option<Caller>, Error> {
    for _ in 0..ROUTE_AUTH_MAX {
        match identify(plan, tables, scratch, understood, now) {
            Err(Error::Unverified(by)) => {
                verify_at_once(plan, tables, scratch, by);
                scratch.verified.clear();
            }
            caller => return caller,
        }
    }
    Err(Error::PasswordsBusy)
}

fn answer(
    plan: &Plan,
    understood: &Understood,
    scratch: &mut Scratch,
    record: &Record,
) -> Result<(), Error> {
    let context = RequestContext {
        method: Method::Get,
        upgrade: None,
        fields_max: RESPONSE_FIELDS_MAX,
        tolerate: ResponseFaults::NONE,
    };
    let response: ResponseHead =
        parse_response(RESPONSE, &context, &mut scratch.response_fields)
            .map_err(|error| Error::Upstream(super::error::Fault::Response(error)))?;
    let route = &plan.routes[understood.route];
    scratch.put_response_lines(route, record, Present::Upstream(RESPONSE));
    let Scratch {
        response_fields: fields,
        response_head: out,
        lines,
        ..
    } = scratch;
    let forward = ForwardResponse {
        body: BodyFraming::Length(128),
        client_version: Version::Http11,
        keep_alive: true,
        trailers: false,
        date: None,
        via: None,
        edits: Edits {
            lines,
            removed: route.response_headers.removed(),
        },
    };
    out.clear();
    out.reserve(forward.size_max(RESPONSE.len(), fields.len()));
    write_response_head(out, RESPONSE, &response, fields, &forward);
    Ok(())
}
