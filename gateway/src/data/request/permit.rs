//! Whether a request goes on, and to what: the steps from its head to what its route does, in order.

use super::decide::{
    Heard, Site, Understood, check_sizes, identify, subject, take_action, understand,
};
use super::limits::ask_limits;
use super::{Decision, Scratch, ask_cors, ask_filters, ask_networks, guard};
use crate::data::auth::Caller;
use crate::data::connection::Connection;
use crate::data::error::Error;
use crate::data::log::Record;
use crate::data::worker::Served;
use crate::telemetry::{FilterOutcome, NetworkOutcome};

impl Heard for Connection {
    fn passed(&self, reason: &'static str) {
        self.worker
            .metrics
            .counted_only(self.listener.index, reason);
    }

    fn network(&self, list: usize, outcome: NetworkOutcome) {
        self.worker.metrics.network_decided(list, outcome);
    }

    fn filter(&self, counter: usize, outcome: FilterOutcome) {
        self.worker.metrics.filter_decided(counter, outcome);
    }
}

/// Where the requests of a connection come in.
fn site_of<'a>(connection: &'a Connection, served: &'a Served) -> Site<'a> {
    Site {
        plan: &served.plan,
        matchers: &served.matchers,
        filters: &served.filters,
        listener: &connection.listener,
        peer: connection.peer(),
        heard: connection,
    }
}

/// Why there is no decision.
pub(super) enum Undecided {
    /// The request is refused.
    No(Error),
    /// An authenticator has to be waited for.
    Unverified(Box<Unverified>),
}

impl From<Error> for Undecided {
    fn from(error: Error) -> Self {
        Self::No(error)
    }
}

/// A request whose caller is not known before an authenticator was waited for.
pub(super) struct Unverified {
    understood: Understood,
    /// Seconds since 1970.
    now: u64,
    /// The authenticator.
    by: usize,
}

/// Steps 1 to 5. Does not wait.
pub(super) fn decide(
    connection: &Connection,
    served: &Served,
    scratch: &mut Scratch,
    record: &mut Record,
) -> Result<Decision, Undecided> {
    let site = site_of(connection, served);
    let Some(understood) = understand(&site, scratch, record, &mut ())? else {
        return Ok(Decision::Options);
    };
    ask_networks(&site, &understood)?;
    if ask_cors(&site, scratch, &understood, record)? {
        return Ok(Decision::Options);
    }
    ask_filters(&site, scratch, &understood)?;
    let config = &served.plan.routes[understood.route].config;
    check_sizes(config, scratch.head.data(), &understood.request)?;
    let access = &config.access;
    let caller = if access.auth.is_empty() {
        None
    } else {
        let now = connection.worker.clock.unix_micros(record.started) / 1_000_000;
        match identify(&served.plan, &served.tables, scratch, &understood, now) {
            Err(Error::Unverified(by)) => {
                let waits = Unverified {
                    understood,
                    now,
                    by,
                };
                return Err(Undecided::Unverified(Box::new(waits)));
            }
            caller => caller?,
        }
    };
    Ok(permit(
        connection,
        served,
        scratch,
        record,
        (&understood, caller),
    )?)
}

/// Waits for authenticators that verify a password or ask elsewhere, and decides then.
pub(super) async fn decide_later(
    connection: &mut Connection,
    served: &Served,
    scratch: &mut Scratch,
    record: &mut Record,
    waits: Box<Unverified>,
) -> Result<Decision, Error> {
    let Unverified {
        ref understood,
        now,
        by,
    } = *waits;
    let asked = (understood, now, by);
    let caller = guard::identify_verified(connection, served, scratch, record, asked).await?;
    permit(connection, served, scratch, record, (understood, caller))
}

/// Steps 5 and 6, of a request whose caller is known: its limits, and what its route does.
fn permit(
    connection: &Connection,
    served: &Served,
    scratch: &mut Scratch,
    record: &mut Record,
    (understood, caller): (&Understood, Option<Caller>),
) -> Result<Decision, Error> {
    let mut key_part = std::mem::take(&mut scratch.key_part);
    let identity = caller.as_ref().map(Caller::identity);
    let subject = subject(&served.plan, scratch, understood, identity);
    let route = understood.route;
    let limited = ask_limits(connection, served, route, &subject, &mut key_part, record);
    scratch.key_part = key_part;
    record.caller = caller;
    limited?;
    let site = site_of(connection, served);
    take_action(&site, scratch, understood, record, |total| {
        served.next_share(total)
    })
}
