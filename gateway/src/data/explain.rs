//! What would be done with a request: found out by the steps that serve requests, in their order, without doing it. Nothing
//! is counted, no connection is made.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use runtime::Buf;

use super::auth::Known::Elsewhere;
use super::auth::{Caller, Identity, PASSWORD_WRONG, Tables, Verdict, Verified, suppose};
use super::client::Peer;
use super::codec::{HeadScanner, Method, Version};
use super::error::Error;
use super::filter::limit;
use super::filter::security_headers::Present;
use super::forward::{Outgoing, chosen_upgrade};
use super::log::Record;
use super::plan::{Plan, client_of};
use super::request::{
    Decision, Heard, Scratch, Site, Understood, ask_cors, ask_filters, ask_networks, asked,
    challenges, check_sizes, identify, own_edits, page, subject, take_action, understand,
};
use super::respond::{Answer, Content};
use super::route::{Asked, Captures, RouteIndex, RouteTable, Unmet, Watch};
use crate::config::{
    Action, AskTarget, Conditions, FixedResponse, ForwardAuthConfig, PathPattern, ROUTE_AUTH_MAX,
    RouteConfig,
};
use crate::telemetry::top::LabelPart;
use crate::telemetry::{FilterOutcome, NetworkOutcome};

/// A request, and where it comes in.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Index of the listener.
    pub listener: usize,
    /// Who connects.
    pub peer: IpAddr,
    /// The whole request head.
    pub head: &'a [u8],
    /// When.
    pub at: Instant,
    /// When, in seconds of Unix time, for tokens.
    pub unix_seconds: u64,
}

/// What was found out. What a request did not come to is not there.
#[derive(Debug)]
pub struct Explanation {
    /// Who the client is, by all that is believed.
    pub client: IpAddr,
    /// The path as it is routed.
    pub path: Option<String>,
    /// Rules that the request breaks and the listener only counts.
    pub passed: Vec<&'static str>,
    /// The route that serves it.
    pub route: Option<RouteIndex>,
    /// Every other route, the candidates first in the order in which they were asked.
    pub lost: Vec<(RouteIndex, Lost)>,
    /// What each list of networks said, by its index.
    pub networks: Vec<(usize, NetworkOutcome)>,
    /// What each policy for other origins and each filter said, by its place in `Config::filter_names`.
    pub filters: Vec<(usize, FilterOutcome)>,
    /// Who calls, where an authenticator knows.
    pub caller: Option<Known>,
    /// The authenticator elsewhere that would be asked, by its index, with the line of the question; what follows supposes that it
    /// lets the request in.
    pub asks: Option<(usize, String)>,
    /// Authenticators by their index whose keys are fetched by a running gateway and not here; what follows supposes of a token
    /// for them that its issuer made it.
    pub supposed: Vec<usize>,
    /// The limits that are asked.
    pub limits: Vec<Asks>,
    /// What comes of it.
    pub end: End,
}

/// Why a route does not serve the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It is for other hosts.
    Host,
    /// It is for other paths.
    Path,
    /// Its first condition that the request does not fulfil.
    Unmet(Unmet),
    /// It would, were it not for one that is more specific.
    LessSpecific,
}

/// A caller.
#[derive(Debug)]
pub struct Known {
    /// The consumer's name.
    pub name: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its plan.
    pub plan: Option<String>,
}

/// A limit and the key that it counts the request by.
#[derive(Debug)]
pub struct Asks {
    /// Its index.
    pub limit: usize,
    /// The parts of the key.
    pub key: Vec<LabelPart>,
    /// The value of `RateLimit-Policy`; `None`: it is off for this key.
    pub policy: Option<String>,
    /// It refuses nothing.
    pub is_shadow: bool,
}

/// What comes of a request.
#[derive(Debug)]
pub enum End {
    /// It is refused.
    Refused {
        /// The status; `None`: the connection is closed without an answer.
        status: Option<u16>,
        /// Why, as the log has it.
        reason: &'static str,
        /// The answer as it is sent, but for `Connection`, and with an empty `Date`.
        answer: Vec<u8>,
    },
    /// The gateway answers.
    Answered {
        /// The status.
        status: u16,
        /// As that of a refusal.
        answer: Vec<u8>,
    },
    /// It goes to an upstream.
    Forwarded {
        /// Indices of the upstreams, each with its weight among them.
        upstreams: Vec<(usize, u32)>,
        /// The head as the upstream gets it.
        head: Vec<u8>,
        /// The protocol to which it may be upgraded.
        upgrade: Option<String>,
        /// Field lines that are added to the response.
        added: Vec<u8>,
        /// Fields that are taken out of it.
        removed: Vec<String>,
    },
}

/// The candidates as they were asked.
#[derive(Default)]
struct Tried(Vec<(RouteIndex, Option<Unmet>)>);

impl Watch for Tried {
    fn tried(&mut self, route: RouteIndex, unmet: Option<Unmet>) {
        if self.0.iter().all(|(each, _)| *each != route) {
            self.0.push((route, unmet));
        }
    }
}

/// What was decided on the way.
#[derive(Default)]
struct Said {
    passed: RefCell<Vec<&'static str>>,
    networks: RefCell<Vec<(usize, NetworkOutcome)>>,
    filters: RefCell<Vec<(usize, FilterOutcome)>>,
}

impl Heard for Said {
    fn passed(&self, reason: &'static str) {
        self.passed.borrow_mut().push(reason);
    }

    fn network(&self, list: usize, outcome: NetworkOutcome) {
        self.networks.borrow_mut().push((list, outcome));
    }

    fn filter(&self, counter: usize, outcome: FilterOutcome) {
        self.filters.borrow_mut().push((counter, outcome));
    }
}

/// Finds out what a plan does with a request. Costs a small table for each route.
///
/// # Panics
///
/// There is no listener of that index.
#[must_use]
pub fn explain(plan: &Plan, question: &Question<'_>) -> Explanation {
    let client = client_of(question.peer);
    let text = client.to_string();
    let said = Said::default();
    let matchers = plan.table.matchers();
    let site = Site {
        plan,
        matchers: &matchers,
        filters: &plan.filters,
        listener: &plan.listeners[question.listener],
        peer: Peer {
            client,
            key: plan.hasher.address(client, plan.client_ip.ipv6_prefix),
            text: &text,
            trusted: plan.trusted_proxies.contains(client),
        },
        heard: &said,
    };
    let mut asking = Asking {
        site: &site,
        question,
        scratch: Scratch::default(),
        record: Record::new(question.at, *REQUEST_ID, client),
        limits: Vec::new(),
        asks: None,
        supposed: Vec::new(),
    };
    asking.scratch.head = Buf::copy_of(question.head);
    let mut tried = Tried::default();
    let end = asking.walk(&mut tried).unwrap_or_else(|error| {
        let status = error.status();
        End::Refused {
            status,
            reason: error.name(),
            answer: status.map_or_else(Vec::new, |status| asking.refusal(status, &error)),
        }
    });
    let Asking {
        scratch,
        record,
        limits,
        asks,
        supposed,
        ..
    } = asking;
    let came_to_routes = record.route.is_some()
        || matches!(&end, End::Refused { reason, .. } if ROUTELESS.contains(reason));
    let request = record.request.filter(|_| came_to_routes);
    let asked = request.map(|request| asked(plan, &scratch, &request, record.client));
    let identity = record.caller.as_ref().map(Caller::identity);
    let identity = identity.filter(|identity| !identity.name.is_empty());
    Explanation {
        client: record.client,
        path: asked.map(|asked| String::from_utf8_lossy(asked.path).into_owned()),
        passed: said.passed.take(),
        route: record.route,
        lost: asked.map_or_else(Vec::new, |asked| {
            let method = request.map_or(&b""[..], |request| {
                request.method_span.of(scratch.head.data())
            });
            lost(plan, &asked, method, record.route, tried)
        }),
        networks: said.networks.take(),
        filters: said.filters.take(),
        caller: identity.map(|identity| Known {
            name: identity.name.to_string(),
            groups: identity.groups.iter().map(ToString::to_string).collect(),
            plan: identity.plan.as_ref().map(ToString::to_string),
        }),
        limits,
        asks,
        supposed,
        end,
    }
}

/// What a real request has 32 random digits for.
const REQUEST_ID: &[u8; 32] = b"00000000000000000000000000000000";

/// Reasons of refusals by the route table.
const ROUTELESS: [&str; 3] = ["no_route", "method_not_allowed", "path_ambiguous"];

/// Method and target of the question; of one that is below a path that path.
fn question_line(config: &ForwardAuthConfig) -> String {
    let (method, ending) = (config.method.name(), "...");
    match &config.target {
        AskTarget::Fixed(target) => format!("{method} {target}"),
        AskTarget::Below(prefix) => format!("{method} {prefix}/{ending}"),
    }
}

/// A request on its way through the steps.
struct Asking<'a> {
    site: &'a Site<'a>,
    question: &'a Question<'a>,
    scratch: Scratch,
    record: Record,
    limits: Vec<Asks>,
    asks: Option<(usize, String)>,
    supposed: Vec<usize>,
}

impl Asking<'_> {
    /// The steps of a request in their order.
    fn walk(&mut self, tried: &mut Tried) -> Result<End, Error> {
        let plan = self.site.plan;
        let bounds = &self.site.listener.head_limits;
        let scanned = HeadScanner::for_request().scan(self.scratch.head.data(), bounds);
        let whole = scanned.map_err(Error::Head)?;
        debug_assert_eq!(whole, Some(0..self.question.head.len()), "a head");
        let understood = understand(self.site, &mut self.scratch, &mut self.record, tried)?;
        let Some(understood) = understood else {
            return Ok(self.nothing());
        };
        ask_networks(self.site, &understood)?;
        if ask_cors(self.site, &self.scratch, &understood, &mut self.record)? {
            return Ok(self.nothing());
        }
        ask_filters(self.site, &self.scratch, &understood)?;
        let route = &plan.routes[understood.route];
        check_sizes(&route.config, self.scratch.head.data(), &understood.request)?;
        if !route.config.access.auth.is_empty() {
            self.record.caller = self.identify(&understood)?;
        }
        self.ask_limits(&understood)?;
        let decision = take_action(
            self.site,
            &mut self.scratch,
            &understood,
            &self.record,
            |_total| 0,
        )?;
        Ok(match (decision, &route.config.action) {
            (Decision::Respond { .. }, Action::Respond(fixed)) => {
                self.answered(fixed.status, Content::Fixed(fixed))
            }
            (Decision::Redirect { status }, _) => {
                let target = self.scratch.rewritten.clone();
                self.answered(status, Content::Redirect(&target))
            }
            (Decision::Forward { upstream }, action) => {
                let upstreams = match action {
                    Action::Split(parts) => {
                        let shares = parts.iter().map(|part| (part.upstream, part.weight));
                        shares.collect()
                    }
                    _ => vec![(upstream, 1)],
                };
                self.forwarded(upstreams, upstream, &understood)
            }
            (Decision::Options | Decision::Respond { .. }, _) => {
                debug_assert!(false, "the decision is that of the route's action");
                return Err(Error::NoRoute);
            }
        })
    }

    /// Who calls; a password is verified at once.
    fn identify(&mut self, understood: &Understood) -> Result<Option<Caller>, Error> {
        let plan = self.site.plan;
        let tables = Tables::unfetched(&plan.authenticators);
        let now = self.question.unix_seconds;
        for _ in 0..ROUTE_AUTH_MAX {
            let caller = identify(plan, &tables, &mut self.scratch, understood, now);
            let Err(Error::Unverified(by)) = caller else {
                return caller;
            };
            if let Elsewhere(config) = &plan.authenticators[by].known {
                // It is supposed that it lets the request in, as one of those who may.
                self.asks = Some((by, question_line(config)));
                let groups = &plan.routes[understood.route].config.access.groups;
                let mut nobody = Identity::nobody();
                nobody.groups = groups.iter().map(|group| group.as_str().into()).collect();
                let verdict = Verdict::Is(Rc::new(nobody));
                let _full = self.scratch.verified.try_push(Verified { by, verdict });
                continue;
            }
            if let Some(verdict) = suppose(&plan.authenticators[by], &self.scratch.key_part, now) {
                self.supposed.push(by);
                let _full = self.scratch.verified.try_push(Verified { by, verdict });
                continue;
            }
            verify_at_once(plan, &tables, &mut self.scratch, by);
        }
        identify(plan, &tables, &mut self.scratch, understood, now)
    }

    /// The answer to OPTIONS that goes no further.
    fn nothing(&mut self) -> End {
        let nothing = FixedResponse {
            status: 204,
            headers: Vec::new(),
            body: String::new(),
        };
        self.answered(204, Content::Fixed(&nothing))
    }

    fn ask_limits(&mut self, understood: &Understood) -> Result<(), Error> {
        let plan = self.site.plan;
        let mut buffer = Vec::new();
        let caller = self.record.caller.as_ref();
        let identity = caller.map(Caller::identity);
        let subject = subject(plan, &self.scratch, understood, identity);
        let limits = &plan.routes[understood.route].limits;
        for asked in limits {
            let limit = &plan.limits[asked.limit];
            let policy = limit.policy_for(asked, &subject, &mut buffer);
            self.limits.push(Asks {
                limit: asked.limit,
                policy: policy.map(|(policy, _)| policy.to_owned()),
                is_shadow: policy.is_some_and(|(_, is_shadow)| is_shadow),
                key: subject.label(&limit.key, &mut buffer).parts(),
            });
        }
        // Every bucket is full; what can still refuse is what no bucket could ever give.
        let now = plan.limits_time(self.question.at);
        limit::check(&plan.limits, limits, &subject, &mut buffer, now, |_, _| {})
    }

    fn forwarded(
        &mut self,
        upstreams: Vec<(usize, u32)>,
        upstream: usize,
        understood: &Understood,
    ) -> End {
        let plan = self.site.plan;
        let route = &plan.routes[understood.route];
        let config = Some(&route.config);
        let upgrade = chosen_upgrade(&understood.request, &self.scratch, config);
        let endpoint = plan.upstreams[upstream].endpoints.first();
        let outgoing = Outgoing {
            request: &understood.request,
            route: Some(route),
            listener: self.site.listener,
            trusted: self.site.peer.trusted,
            endpoint: endpoint.map_or("", |endpoint| &endpoint.authority),
            upgrade,
            names_consumers: !plan.authenticators.is_empty(),
        };
        let head = outgoing.write(&mut self.scratch, &self.record, None);
        let edits = own_edits(plan, &mut self.scratch, &self.record, Present::Nothing);
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        End::Forwarded {
            upstreams,
            head: head.data().to_vec(),
            upgrade: upgrade.map(str::to_owned),
            added: edits.lines.to_vec(),
            removed: edits.removed.iter().map(|name| text(name)).collect(),
        }
    }

    fn answered(&mut self, status: u16, content: Content<'_>) -> End {
        End::Answered {
            status,
            answer: self.answer(status, content),
        }
    }

    fn refusal(&mut self, status: u16, error: &Error) -> Vec<u8> {
        let plan = self.site.plan;
        let challenges = challenges(plan, &self.record, error);
        let known = (&self.scratch, &self.record);
        let page = page(plan, self.site.listener, known, (status, error));
        let content = Content::Problem {
            error,
            request_id: REQUEST_ID,
            limit: None,
            table: &plan.table,
            challenges: &challenges,
            page: page.as_ref(),
        };
        self.answer(status, content)
    }

    fn answer(&mut self, status: u16, content: Content<'_>) -> Vec<u8> {
        let request = self.record.request;
        let present = match &content {
            Content::Fixed(fixed) => Present::Fixed(&fixed.headers),
            Content::Redirect(_) | Content::Problem { .. } => Present::Nothing,
        };
        let answer = Answer {
            status,
            content,
            head_only: request.is_some_and(|request| request.method == Method::Head),
            close: false,
            say_keep_alive: request.is_some_and(|request| request.version == Version::Http10),
            edits: own_edits(self.site.plan, &mut self.scratch, &self.record, present),
        };
        let mut out = Buf::empty();
        answer.put(&mut out, b"");
        out.data().to_vec()
    }
}

/// Verifies the password that [`identify`] has left in `scratch` for the authenticator `by`, however long it takes.
pub(super) fn verify_at_once(plan: &Plan, tables: &Tables, scratch: &mut Scratch, by: usize) {
    let credential = std::mem::take(&mut scratch.key_part);
    let asked = tables.unverified(by, &credential);
    let right = asked.filter(|asked| asked.table.verify(&asked.user, &asked.password));
    let identity = right.map(|asked| {
        let plan = (by, &plan.authenticators[by]);
        tables.remember(plan, &asked.table, &credential, &asked.user)
    });
    let verdict = identity.map_or(Verdict::Wrong(PASSWORD_WRONG), Verdict::Is);
    let _full = scratch.verified.try_push(Verified { by, verdict });
}

/// Why each other route does not serve what is asked: those that were tried as they said, the others as each would say alone.
fn lost(
    plan: &Plan,
    asked: &Asked<'_>,
    method: &[u8],
    won: Option<RouteIndex>,
    tried: Tried,
) -> Vec<(RouteIndex, Lost)> {
    let told = |(route, unmet): (RouteIndex, Option<Unmet>)| Some((route, Lost::Unmet(unmet?)));
    let mut lost: Vec<_> = tried.0.into_iter().filter_map(told).collect();
    for (index, route) in plan.routes.iter().enumerate() {
        if Some(index) != won && lost.iter().all(|(each, _)| *each != index) {
            lost.push((index, alone(&route.config, asked, method)));
        }
    }
    lost
}

/// What a route says where there is no other.
fn alone(route: &RouteConfig, asked: &Asked<'_>, method: &[u8]) -> Lost {
    let ask = |route: &RouteConfig| {
        let table = RouteTable::new(std::slice::from_ref(route));
        let asked = Asked {
            method: table.method(method),
            ..*asked
        };
        let mut tried = Tried::default();
        let found = table.find(
            &asked,
            &table.matchers(),
            &mut Captures::default(),
            &mut tried,
        );
        match (found, tried.0.first()) {
            (Ok(_), _) => Some(Lost::LessSpecific),
            (Err(_), Some((_, Some(unmet)))) => Some(Lost::Unmet(*unmet)),
            (Err(_), _) => None,
        }
    };
    let on_every_path = || RouteConfig {
        path: PathPattern::Prefix("/".into()),
        conditions: Conditions::default(),
        ..route.clone()
    };
    ask(route).unwrap_or_else(|| match ask(&on_every_path()) {
        None => Lost::Host,
        Some(_) => Lost::Path,
    })
}
