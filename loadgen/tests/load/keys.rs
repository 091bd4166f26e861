//! Who the requests come from, what differs in them, and whether a limiter treats each as it should.

use std::collections::{HashMap, HashSet};

use crate::support::{self, DRIVERS, Upstream, field, limiting, load, recording, run, scripted};

#[test]
fn each_request_carries_a_key_of_the_population() {
    let (address, heads) = recording();
    let url = format!("http://{address}/");
    let ran = run(&[
        "-n",
        "500",
        "-c",
        "4",
        "-t",
        "2",
        "--keys",
        "uniform:20",
        "--key-as",
        "xff",
        &url,
    ]);
    assert_eq!(ran.code, 0, "{:#}", ran.report);
    let clients: HashSet<String> = heads
        .try_iter()
        .filter_map(|head| field(&head, "X-Forwarded-For"))
        .collect();
    let population: HashSet<String> = (2..22).map(|host| format!("10.0.0.{host}")).collect();
    assert_eq!(clients, population);
}

#[test]
fn a_key_can_stand_in_a_header_or_anywhere() {
    let (address, heads) = recording();
    let url = format!("http://{address}/");
    assert_eq!(
        run(&[
            "-n",
            "10",
            "-c",
            "1",
            "--keys",
            "once",
            "--key-as",
            "header:x-api-key",
            &url
        ])
        .code,
        0
    );
    let keys: Vec<_> = heads
        .try_iter()
        .map(|head| field(&head, "x-api-key").unwrap())
        .collect();
    assert_eq!(
        keys,
        (0..10).map(|key| format!("key-{key}")).collect::<Vec<_>>()
    );

    let url = format!("http://{address}/users/${{key}}?n=${{counter}}");
    assert_eq!(run(&["-n", "3", "-c", "1", "--keys", "once", &url]).code, 0);
    let lines: Vec<_> = heads
        .try_iter()
        .map(|head| head.lines().next().unwrap().to_owned())
        .collect();
    assert_eq!(
        lines,
        [0, 1, 2].map(|n| format!("GET /users/{n}?n={n} HTTP/1.1"))
    );
}

#[test]
fn a_body_with_places_is_framed_right_each_time() {
    let upstream = Upstream::start("auto");
    // Counters from 0 to 199 have one, two and three digits: one wrong length would break the connection.
    let body = "n=${counter}&r=${random}";
    let ran = run(&["-n", "200", "-c", "1", "-b", body, &upstream.url("/")]);
    assert_eq!(ran.code, 0, "{:#}", ran.report);
    assert_eq!(ran.number("/connect/count"), 1.0);
}

#[test]
fn zipf_keys_come_as_often_as_the_law_says() {
    let (address, heads) = recording();
    let url = format!("http://{address}/");
    let ran = run(&[
        "-n", "2000", "-c", "4", "-t", "1", "--keys", "zipf:100", "--key-as", "xff", &url,
    ]);
    assert_eq!(ran.code, 0, "{:#}", ran.report);
    let mut counts: HashMap<String, u32> = HashMap::new();
    for head in heads.try_iter() {
        *counts
            .entry(field(&head, "X-Forwarded-For").unwrap())
            .or_default() += 1;
    }
    // The first of 100 has 1 / 5.187 of all: 386 of 2000 with a deviation of 18.
    let first = counts["10.0.0.2"];
    assert!((300..470).contains(&first), "{first}");
    assert!(counts.len() > 50);
}

#[test]
fn a_connection_can_come_from_the_address_of_its_key() {
    for driver in DRIVERS {
        let peers = support::peers();
        let url = format!("http://{}/", peers.address);
        let ran = run(&[
            "--driver",
            driver,
            "-n",
            "40",
            "-c",
            "2",
            "-t",
            "1",
            "--keys",
            "uniform:5",
            "--key-as",
            "source",
            "--no-keepalive",
            &url,
        ]);
        assert_eq!(ran.code, 0, "{:#}", ran.report);
        let mut addresses: Vec<String> = peers.seen();
        // The check that somebody listens comes from the ordinary address.
        addresses.retain(|address| address != "127.0.0.1");
        let distinct: HashSet<&str> = addresses.iter().map(String::as_str).collect();
        assert!(addresses.len() >= 40);
        let population = [
            "127.0.0.2",
            "127.0.0.3",
            "127.0.0.4",
            "127.0.0.5",
            "127.0.0.6",
        ];
        assert_eq!(distinct, HashSet::from(population));
    }
}

#[test]
fn an_exact_limiter_is_found_exact() {
    let url = format!("http://{}/", limiting(20, 10));
    // 10 keys at 100/s each are five times over their limit, for a second: 10 + 20 of 100 are due.
    let ran = run(&[
        "--rate",
        "1k",
        "-d",
        "1s",
        "-t",
        "2",
        "--keys",
        "uniform:10",
        "--key-as",
        "xff",
        "--limit",
        "20/s:10",
        &url,
    ]);
    assert_eq!(ran.code, 0, "429 is a result here: {:#}", ran.report);
    let accuracy = &ran.report["limiter_accuracy"];
    assert_eq!(accuracy["keys"], 10);
    assert_eq!(accuracy["requests"], 1000);
    assert_eq!(accuracy["unjudged"], 0);
    let ideal = ran.number("/limiter_accuracy/ideal");
    assert!((280.0..500.0).contains(&ideal), "{accuracy:#}");
    // Two requests per key at the edge: the server decides later than the ideal, and a slow machine much later.
    for side in ["over_percent", "under_percent"] {
        let percent = accuracy[side].as_f64().unwrap();
        assert!(percent <= 20.0 / ideal * 100.0 + 0.01, "{accuracy:#}");
    }
}

#[test]
fn a_limiter_that_grants_too_much_is_found_out() {
    let url = format!("http://{}/", limiting(40, 10));
    let ran = run(&[
        "--rate",
        "1k",
        "-d",
        "1s",
        "-t",
        "2",
        "--keys",
        "uniform:10",
        "--key-as",
        "xff",
        "--limit",
        "20/s:10",
        &url,
    ]);
    // 10 + 40 instead of 10 + 20.
    let over = ran.number("/limiter_accuracy/over_percent");
    assert!(
        (50.0..80.0).contains(&over),
        "{:#}",
        ran.report["limiter_accuracy"]
    );
    assert_eq!(ran.number("/limiter_accuracy/under_percent"), 0.0);
    assert!(ran.number("/limiter_accuracy/worst_over/granted") >= 45.0);
}

#[test]
fn a_limiter_that_grants_nothing_is_under_by_a_hundred_per_cent() {
    let refusing = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n";
    let url = format!("http://{}/", scripted(support::always(refusing)));
    let ran = run(&[
        "--rate", "200", "-d", "500ms", "-t", "1", "--limit", "50/s", &url,
    ]);
    assert_eq!(ran.code, 0, "{:#}", ran.report);
    assert_eq!(ran.number("/limiter_accuracy/under_percent"), 100.0);
    assert_eq!(ran.report["limiter_accuracy"]["keys"], 1);
}

#[test]
fn the_limit_and_where_its_key_shows_come_from_the_gateways_configuration() {
    let config = std::env::temp_dir().join(format!("ringgate-load-{}.toml", std::process::id()));
    std::fs::write(
        &config,
        "version = 1\n[limits.other]\nrate = '1/d'\n\
         [limits.client]\nrate = '20/s'\nburst = 10\nkey = 'header:x-forwarded-for'\n",
    )
    .unwrap();
    let url = format!("http://{}/", limiting(20, 10));
    let arguments = |limit: &str| {
        let words = "--rate 1k -d 1s -t 2 --keys uniform:10 --limit-config";
        let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        words.extend([format!("{}{limit}", config.display()), url.clone()]);
        words
    };
    let words = arguments(":client");
    let ran = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ran.code, 0, "429 is a result here: {:#}", ran.report);
    assert_eq!(ran.report["limit"], "20.000/s, burst 10");
    assert_eq!(ran.report["limiter_accuracy"]["keys"], 10);
    let ideal = ran.number("/limiter_accuracy/ideal");
    assert!((280.0..500.0).contains(&ideal), "{:#}", ran.report);
    for (limit, told) in [
        ("", "which limit? Write FILE:LIMIT"),
        (":nobody", "no limit `nobody`"),
    ] {
        let refused = load().args(arguments(limit)).output().unwrap();
        let complaint = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(complaint.contains(told), "{complaint}");
    }
    std::fs::remove_file(&config).unwrap();
}

#[test]
fn a_million_keys_take_no_memory_of_their_own() {
    let upstream = Upstream::start("auto");
    let url = upstream.url("/");
    let run = run(&[
        "-n", "50k", "-c", "16", "--keys", "zipf:1m", "--key-as", "xff", &url,
    ]);
    assert_eq!(run.code, 0, "{:#}", run.report);
    // Of a million requests as of these: `make soak` sends those.
    let peak = run.number("/memory_peak_bytes");
    assert!(
        (1e6..64.0 * 1024.0 * 1024.0).contains(&peak),
        "{peak} bytes"
    );
}
