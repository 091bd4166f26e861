//! What a list of networks costs in memory: of 100,000 prefixes less than 32 MiB, however it is read.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::counting::Counters;
use crate::support::{config, plan};

const PREFIXES: u32 = 100_000;
const BYTES_MAX: i64 = 32 << 20;
/// What a worker looks at, for each network of IPv4 and of IPv6.
const PLAN_BYTES_EACH_MAX: [i64; 2] = [16, 80];

/// Bytes of a plan with these networks, and of the configuration that it was made of.
fn bytes_of(counters: &'static Counters, networks: &str, name: &str) -> (i64, i64) {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, networks).unwrap();
    let list = format!("deny_file = '{}'\notherwise = 'allow'", file.display());
    bytes_with(counters, &list)
}

fn bytes_with(counters: &'static Counters, list: &str) -> (i64, i64) {
    let text = format!(
        "[[listeners]]\nname = 'web'\naddress = '127.0.0.1:0'\n[network_lists.known]\n{list}\n\
         [[routes]]\nname = 'all'\nnetwork_lists = ['known']\nrespond = {{ status = 200 }}\n"
    );
    let before = counters.bytes();
    let config = config(&text);
    let of_config = counters.bytes() - before;
    let plan = plan(&config);
    let of_plan = counters.bytes() - before - of_config;
    drop(plan);
    (of_plan, of_config)
}

#[test]
fn a_hundred_thousand_networks_take_a_few_megabytes() {
    let (mut v4, mut v6) = (String::new(), String::new());
    for number in 0..PREFIXES {
        // No two beside each other, so that none is joined with another.
        let low = Ipv4Addr::from(0x0b00_0000 + number * 0x2468);
        let high = Ipv6Addr::from((0x2400_0000_0000 + u128::from(number) * 2) << 80);
        // Writing to a String cannot fail.
        let _infallible = writeln!(v4, "{low}/{}", 29 + number % 3);
        let _infallible = writeln!(v6, "{high}/48");
    }
    let counters = Counters::new();
    counters.follow_this_thread();
    let (empty, _) = bytes_with(counters, "otherwise = 'allow'");
    for (family, bytes_each_max) in [&v4, &v6].into_iter().zip(PLAN_BYTES_EACH_MAX) {
        let (of_plan, of_config) = bytes_of(counters, family, "networks-one");
        let bytes = of_plan - empty;
        println!("a plan's {bytes} bytes, its configuration's {of_config}");
        let most = i64::from(PREFIXES) * bytes_each_max;
        assert!(
            bytes > i64::from(PREFIXES) * 2,
            "{bytes} bytes: the count works"
        );
        assert!(bytes < most, "{bytes} bytes, more than {most}");
    }
    let (of_plan, of_config) = bytes_of(counters, &(v4 + &v6), "networks-both");
    let both = of_plan + of_config;
    assert!(both < BYTES_MAX, "{both} bytes");
}
