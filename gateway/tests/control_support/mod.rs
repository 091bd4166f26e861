//! What a control plane without workers shows: a plan of one listener and nothing else.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "test helpers"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use gateway::config::{ConfigSource, load};
use gateway::data::plan::{Addresses, Plan};
use gateway::data::upstream::AddressCell;
use limiter::KeyHasher;

struct NoAddresses;

impl Addresses for NoAddresses {
    fn cell(&mut self, _host: &str, _port: u16) -> AddressCell {
        AddressCell::default()
    }

    fn demo(&self) -> Option<SocketAddr> {
        None
    }
}

pub(crate) fn plan() -> Arc<Plan> {
    let source = ConfigSource::Text {
        name: "test",
        text: "listeners = [{ name = 'web', address = '127.0.0.1:0' }]",
    };
    let config = load(source, &|_| None).unwrap();
    let (hasher, origin) = (KeyHasher::random(), Instant::now());
    Arc::new(Plan::new(&config, 1, hasher, origin, &mut NoAddresses).unwrap())
}
