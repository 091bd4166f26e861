//! What finding a route costs: among ten routes and among ten thousand, by each kind of path and with conditions.
//!
//! The pass mark: ten thousand cost at most twice what ten cost.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gateway::config::{ConfigSource, load};
use gateway::data::codec::Fields;
use gateway::data::route::{Asked, Captures, RouteTable};

/// Routes over `hosts` hosts: prefixes, captures, exact paths and routes of one path that differ by method.
fn table(hosts: usize, paths: usize) -> RouteTable {
    let mut text = String::from("listeners = [{ name = 'a', address = '[::]:0' }]\n");
    for at in 0..hosts * paths {
        let (host, path) = (at / paths, at % paths);
        let place = match path % 5 {
            0 => format!("path_prefix = '/s/p{path}'"),
            1 => format!("path = '/t/{{id}}/p{path}'"),
            2 => format!("path = '/e/f/p{path}'"),
            3 => format!("path = '/m/{path}'\nmethods = ['GET']"),
            _ => format!("path = '/m/{}'\nmethods = ['PUT']", path - 1),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "[[routes]]\nname = 'r{at}'\nrespond = {{}}\nhost = 'h{host}.example.com'\n{place}"
        );
    }
    let source = ConfigSource::Text {
        name: "bench",
        text: &text,
    };
    match load(source, &|_| None) {
        Ok(config) => RouteTable::new(&config.routes),
        Err(errors) => unreachable!("{errors}"),
    }
}

fn routes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for (name, hosts, paths) in [("10", 1, 10), ("10000", 100, 100)] {
        let table = table(hosts, paths);
        let matchers = table.matchers();
        let host = format!("h{}.example.com", hosts - 1);
        let last = paths - 5;
        for (kind, path) in [
            ("prefix", format!("/s/p{last}/x/y")),
            ("capture", format!("/t/4711/p{}", last + 1)),
            ("exact", format!("/e/f/p{}", last + 2)),
            ("method", format!("/m/{}", last + 3)),
            ("none", "/nothing/here".to_owned()),
        ] {
            let asked = Asked {
                host: host.as_bytes(),
                path: path.as_bytes(),
                query: None,
                method: table.method(b"GET"),
                client: [192, 0, 2, 1].into(),
                head: b"",
                fields: &Fields::new(),
            };
            let mut captures = Captures::default();
            let found = table.find(&asked, &matchers, &mut captures, &mut ());
            assert_eq!(found.is_ok(), kind != "none", "{kind} among {name}");
            group.bench_function(format!("{kind}/{name}"), |bencher| {
                bencher.iter(|| table.find(black_box(&asked), &matchers, &mut captures, &mut ()));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, routes);
criterion_main!(benches);
