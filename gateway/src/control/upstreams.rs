//! `/upstreams`: the state of every endpoint, and what a scrape says of it.

use serde_json::{Value, json};

use crate::data::plan::Plan;
use crate::data::upstream::{HealthSample, SHARE_WHOLE, Upstream};
use crate::telemetry::{EndpointSample, UpstreamSamples};

/// The page.
pub(super) fn page(plan: &Plan) -> Value {
    let upstreams = plan.upstreams.iter().map(|upstream| {
        let (priority, regardless) = upstream.tier();
        json!({
            "upstream": upstream.config.name,
            "priority_in_use": priority,
            // Too few are healthy: all of that priority get requests, whatever is known of them.
            "panic": regardless,
            "requests_waiting": upstream.pending(),
            "endpoints": endpoints(upstream),
        })
    });
    json!({ "upstreams": upstreams.collect::<Vec<_>>() })
}

fn endpoints(upstream: &Upstream) -> Vec<Value> {
    let one = |(index, endpoint): (usize, &std::sync::Arc<crate::data::upstream::Endpoint>)| {
        let health = upstream.health(index);
        json!({
            "endpoint": endpoint.label,
            "state": state(&health),
            "weight": endpoint.weight,
            "weight_in_use": f64::from(endpoint.weight) * f64::from(health.share) / f64::from(SHARE_WHOLE),
            "priority": endpoint.priority,
            "connections": endpoint.connections(),
            "requests_in_flight": upstream.counts_requests().then(|| endpoint.requests()),
            "ejections": health.ejections,
            "checks_passed": health.checks_passed,
            "checks_failed": health.checks_failed,
        })
    };
    upstream.endpoints.iter().enumerate().map(one).collect()
}

fn state(health: &HealthSample) -> &'static str {
    match (health.fails_checks, health.ejected) {
        (false, false) if health.share < SHARE_WHOLE => "slow_start",
        (false, false) => "healthy",
        (true, false) => "fails_checks",
        (false, true) => "ejected",
        (true, true) => "fails_checks_and_ejected",
    }
}

/// What a scrape says.
pub(super) fn samples(plan: &Plan) -> UpstreamSamples {
    let of = |upstream: &std::sync::Arc<Upstream>| {
        let one = |(index, endpoint): (usize, &std::sync::Arc<crate::data::upstream::Endpoint>)| {
            let health = upstream.health(index);
            EndpointSample {
                upstream: upstream.config.name.clone(),
                endpoint: endpoint.label.clone(),
                healthy: health.is_up(),
                ejections: health.ejections,
                checks: [health.checks_passed, health.checks_failed],
            }
        };
        let endpoints = upstream.endpoints.iter().enumerate();
        endpoints.map(one).collect::<Vec<_>>()
    };
    let pending = plan.upstreams.iter().filter_map(|upstream| {
        let waiting = upstream.pending()?;
        Some((upstream.config.name.clone(), waiting))
    });
    UpstreamSamples {
        endpoints: plan.upstreams.iter().flat_map(of).collect(),
        pending: pending.collect(),
    }
}
