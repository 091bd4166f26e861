//! What a scrape says of single endpoints. Their states are shared by all workers, so that there is one sample of each.

use super::names;
use super::render::Page;

/// One endpoint at the moment of a scrape.
#[derive(Clone, Debug)]
pub struct EndpointSample {
    /// Name of its upstream.
    pub upstream: String,
    /// Its address as the configuration writes it.
    pub endpoint: String,
    /// It gets requests: no check finds it out of order, and it is not ejected.
    pub healthy: bool,
    /// Times that it was ejected.
    pub ejections: u64,
    /// Checks that it passed, and that it failed.
    pub checks: [u64; 2],
}

/// What upstreams share between workers.
#[derive(Clone, Debug, Default)]
pub struct UpstreamSamples {
    /// Every endpoint of every upstream.
    pub endpoints: Vec<EndpointSample>,
    /// Names of upstreams where requests may wait for a place, and how many do.
    pub pending: Vec<(String, u32)>,
}

/// The labels of [`EndpointSample::checks`].
const CHECK_OUTCOMES: [&str; 2] = ["passed", "failed"];

pub(super) fn endpoints(page: &mut Page, samples: &UpstreamSamples) {
    page.family(&names::UPSTREAM_PENDING);
    for (upstream, waiting) in &samples.pending {
        page.sample(&names::UPSTREAM_PENDING, &[upstream], waiting);
    }
    let samples = &samples.endpoints;
    page.family(&names::UPSTREAM_HEALTHY);
    for one in samples {
        let labels = [one.upstream.as_str(), &one.endpoint];
        page.sample(&names::UPSTREAM_HEALTHY, &labels, u8::from(one.healthy));
    }
    page.family(&names::UPSTREAM_EJECTIONS);
    for one in samples {
        let labels = [one.upstream.as_str(), &one.endpoint];
        page.sample(&names::UPSTREAM_EJECTIONS, &labels, one.ejections);
    }
    page.family(&names::UPSTREAM_CHECKS);
    for one in samples {
        for (outcome, count) in CHECK_OUTCOMES.iter().zip(one.checks) {
            let labels = [one.upstream.as_str(), &one.endpoint, outcome];
            page.sample(&names::UPSTREAM_CHECKS, &labels, count);
        }
    }
}
