//! What a request is told apart by, where its upstream goes by that.

use std::net::IpAddr;

use limiter::KeyHasher;

use crate::config::{Balance, HashKey};
use crate::data::codec::RequestHead;
use crate::data::filter::key::Subject;
use crate::data::plan::Plan;
use crate::data::request::Scratch;
use crate::data::upstream::{Pool, hasher};

/// The hash by which the upstream of `pool` chooses; `None`: it does not, or the request has no such value.
#[inline]
pub(super) fn key_of(
    pool: &Pool,
    client: IpAddr,
    request: &RequestHead,
    scratch: &Scratch,
    plan: &Plan,
) -> Option<u64> {
    match &pool.upstream().config.balance {
        Balance::Hash(key) => hash(key, client, request, scratch, plan),
        _ => None,
    }
}

#[cold]
fn hash(
    key: &HashKey,
    client: IpAddr,
    request: &RequestHead,
    scratch: &Scratch,
    plan: &Plan,
) -> Option<u64> {
    let hasher: KeyHasher = hasher();
    let path = scratch.path(request);
    let head = scratch.head.data();
    let subject = Subject {
        hasher: &hasher,
        client,
        client_key: hasher.address(client, plan.client_ip.ipv6_prefix),
        head,
        fields: &scratch.fields,
        // No key that is allowed here asks for these.
        host: b"",
        path,
        query: request.query.map(|query| query.of(head)),
        route: "",
        caller: None,
        ignore_case: false,
    };
    match key {
        HashKey::Path => Some(hasher.bytes(path).hash()),
        HashKey::Part(part) => subject.only_value_hash(part, &mut Vec::new()),
    }
}
