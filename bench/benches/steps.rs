//! What steps of a request cost by themselves: asking its limits, choosing an endpoint, and taking an upstream connection from the
//! pool and giving it back. Filters and authenticators are in `filters`, finding its route in `route`, reading its head in `codec`,
//! the whole path in `proxy`.
#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "benchmarks; a plain thread plays the upstream"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use gateway::config::{Config, ConfigSource, UnderscoreHeaders, load};
use gateway::data::codec::{Fields, RequestRules, Scheme, parse_request};
use gateway::data::filter::key::Subject;
use gateway::data::filter::limit::{RouteLimit, admits};
use gateway::data::plan::{Addresses, Plan};
use gateway::data::upstream::{AddressCell, Pool};
use gateway::telemetry::{MetricsShape, WorkerMetrics};
use limiter::KeyHasher;
use runtime::{Choice, Deadlines, Executor, Options};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
const HEAD: &[u8] =
    b"GET /service-7/items/4711 HTTP/1.1\r\nHost: api.example.com\r\nX-Client: 4711\r\n\r\n";

fn config(text: &str) -> Config {
    let source = ConfigSource::Text {
        name: "bench.toml",
        text,
    };
    load(source, &|_| None).expect("a configuration without mistakes")
}

/// A listener, an upstream at `upstream`, two limits, and the route of [`HEAD`].
fn text(upstream: SocketAddr) -> String {
    format!(
        "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:1\"\n\
         [upstreams.be]\nendpoints = [{{ address = \"{upstream}\" }}]\n\
         [limits.a]\nkey = \"header:X-Client\"\nrate = \"1000000000/s\"\n\
         [limits.b]\nkey = [\"client_ip\", \"route\"]\nrate = \"1000000000/s\"\n\
         [[routes]]\nname = \"service-7\"\nupstream = \"be\"\nlimits = [\"a\", \"b\"]\n",
    )
}

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

fn fields() -> Fields {
    let rules = RequestRules {
        fields_max: 128,
        underscore: UnderscoreHeaders::Drop,
        scheme: Scheme::Http,
        rewrite_host: false,
    };
    let mut fields = Fields::new();
    parse_request(HEAD, &rules, &mut fields).expect("a request without mistakes");
    fields
}

struct NoNames;

impl Addresses for NoNames {
    fn cell(&mut self, _host: &str, _port: u16) -> AddressCell {
        unreachable!("upstreams of these benchmarks are addresses")
    }

    fn demo(&self) -> Option<SocketAddr> {
        None
    }
}

fn plan(upstream: SocketAddr) -> Plan {
    let config = config(&text(upstream));
    let hasher = KeyHasher::with_secret(7);
    Plan::new(&config, 1, hasher, Instant::now(), &mut NoNames).expect("a plan")
}

fn filters(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filter");
    let (fields, plan) = (fields(), plan(nowhere()));
    let subject = Subject {
        hasher: &plan.hasher,
        client: CLIENT,
        client_key: plan.hasher.address(CLIENT, 64),
        head: HEAD,
        fields: &fields,
        host: b"api.example.com",
        path: b"/service-7/items/4711",
        query: None,
        route: "service-7",
        caller: None,
        ignore_case: false,
    };
    let mut buffer = Vec::new();
    let now = plan.limits_time(Instant::now());
    for (name, indices) in [
        ("no_limit", [].as_slice()),
        ("one_limit_by_header", &[0]),
        ("two_limits", &[0, 1]),
    ] {
        let of_route = indices
            .iter()
            .map(|&index| RouteLimit::new(index, &plan.limits[index], &plan.hasher, subject.route));
        let limits: Vec<_> = of_route.collect();
        group.bench_function(name, |bencher| {
            bencher.iter(|| admits(&plan.limits, &limits, black_box(&subject), &mut buffer, now));
        });
        assert!(admits(&plan.limits, &limits, &subject, &mut buffer, now));
    }
    group.finish();
}

/// A pool without connections for the first upstream of a plan.
fn pool_of(plan: &Plan) -> Pool {
    let metrics = WorkerMetrics::new(
        0,
        MetricsShape {
            listeners: 1,
            upstreams: 1,
            limits: 2,
            network_lists: 0,
            filters: 0,
        },
    );
    Pool::new(
        Arc::clone(&plan.upstreams[0]),
        Deadlines::new(),
        Rc::new(metrics.writer()),
        0,
        0,
    )
}

/// Whose turn it is, among few endpoints and among many.
fn balancing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("balance");
    for endpoints in [1, 10, 100] {
        for (policy, key) in [
            ("round_robin", None),
            ("least_request", None),
            ("p2c", None),
            ("random", None),
            ("hash", Some(0x9e37_79b9_7f4a_7c15)),
        ] {
            let list: String = (0..endpoints)
                .map(|at| format!("{{ address = \"10.0.0.1:{}\" }}, ", at + 1))
                .collect();
            let hash_key = key.map_or("", |_| "hash_key = \"client_ip\"");
            let config = config(&format!(
                "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:1\"\n\
                 [upstreams.be]\nbalance = \"{policy}\"\n{hash_key}\nendpoints = [{list}]\n\
                 [[routes]]\nname = \"all\"\nupstream = \"be\"\n",
            ));
            let hasher = KeyHasher::with_secret(7);
            let plan = Plan::new(&config, 1, hasher, Instant::now(), &mut NoNames).expect("a plan");
            let pool = pool_of(&plan);
            let mut key = key;
            group.bench_function(format!("{policy}/{endpoints}"), |bencher| {
                bencher.iter(|| {
                    // Another key each time.
                    key = key.map(|key: u64| key.wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1);
                    black_box(pool.turn(key, &[]).expect("an endpoint"));
                });
            });
        }
    }
    group.finish();
}

/// What a request adds to what may be sent again, and a retry takes.
fn budget(criterion: &mut Criterion) {
    let pool = pool_of(&plan(nowhere()));
    criterion.bench_function("retry_budget/earn", |bencher| {
        bencher.iter(|| black_box(&pool).earn_retries(20));
    });
    criterion.bench_function("retry_budget/earn_and_spend", |bencher| {
        bencher.iter(|| {
            let pool = black_box(&pool);
            pool.earn_retries(100);
            assert!(pool.spend_retry());
        });
    });
}

fn pool(criterion: &mut Criterion) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let upstream = listener.local_addr().expect("an address");
    let held = std::thread::spawn(move || listener.accept().expect("a connection"));
    let plan = plan(upstream);
    let mut executor = Executor::new(Options {
        choice: Choice::Auto,
        entries: 256,
    })
    .expect("a driver");
    let pool = pool_of(&plan);
    executor.block_on(async {
        let turn = pool.turn(None, &[]).expect("an endpoint");
        let lease = pool.connect(turn, Instant::now, Duration::from_secs(5), false);
        pool.give_back(lease.await.expect("a connection"));
    });
    let _client = held.join().expect("the upstream's end");
    let mut group = criterion.benchmark_group("pool");
    group.bench_function("reuse_and_give_back", |bencher| {
        bencher.iter_custom(|times| {
            executor.block_on(async {
                let start = Instant::now();
                for _ in 0..times {
                    let turn = pool.turn(None, &[]).expect("an endpoint");
                    let lease = pool.reuse(turn).expect("the idle connection");
                    pool.give_back(black_box(lease));
                }
                start.elapsed()
            })
        });
    });
    group.finish();
    executor.block_on(async { pool.clear() });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = filters, balancing, budget, pool
}
criterion_main!(benches);
