//! Ejections, slow starts and checks on a clock of the test's own, and checks of real sockets.

use super::*;
use crate::config::{ConfigSource, EndpointAddress, load};
use crate::data::upstream::Met;

fn upstream(endpoints: usize, lines: &str) -> Arc<Upstream> {
    let list: Vec<String> = (0..endpoints)
        .map(|number| format!("{{ address = '10.0.0.{number}:80' }}"))
        .collect();
    let text = format!(
        "listeners = [{{ name = 'a', address = '[::]:0' }}]\n[upstreams.u]\nendpoints = [{}]\n{lines}\n",
        list.join(", ")
    );
    let source = ConfigSource::Text {
        name: "x",
        text: &text,
    };
    let config = load(source, &|_| None).unwrap().upstreams.remove(0);
    let endpoint = |each: &crate::config::EndpointConfig| {
        let EndpointAddress::Socket(address) = each.address else {
            panic!("an address was written");
        };
        let text = address.to_string();
        Arc::new(Endpoint::new(
            Target::Tcp(address),
            text.clone(),
            text,
            each,
            1024,
        ))
    };
    let endpoints = config.endpoints.iter().map(endpoint).collect();
    Arc::new(Upstream::new(&config, endpoints, 1))
}

fn health(lines: &str) -> HealthConfig {
    let upstream = upstream(1, &format!("health = {{ {lines} }}"));
    upstream.config.health.clone().unwrap()
}

#[test]
fn the_first_check_decides_and_then_several_in_a_row() {
    let config = health("unhealthy_after = 3, healthy_after = 2");
    let mut streak = Streak::default();
    assert_eq!(streak.learn(false, &config), Some(true));
    assert_eq!(streak.learn(true, &config), None);
    assert_eq!(streak.learn(false, &config), None);
    assert_eq!(streak.learn(true, &config), None);
    assert_eq!(streak.learn(true, &config), Some(false));
    for _ in 0..2 {
        assert_eq!(streak.learn(false, &config), None);
        assert_eq!(streak.learn(false, &config), None);
        assert_eq!(streak.learn(true, &config), None);
    }
    assert_eq!(streak.learn(false, &config), None);
    assert_eq!(streak.learn(false, &config), None);
    assert_eq!(streak.learn(false, &config), Some(true));
    let mut streak = Streak::default();
    assert_eq!(streak.learn(true, &config), None);
    assert_eq!(streak.learn(false, &config), None, "one is not three");
}

/// Fails the first endpoint until it is ejected, and sees for how many seconds.
fn seconds_out(watch: &mut Watch, clock: &mut Instant) -> u64 {
    let upstream = Arc::clone(&watch.upstream);
    upstream.met(0, Met::Failure);
    assert!(upstream.health(0).ejected);
    watch.tick(*clock);
    for seconds in 1.. {
        *clock += Duration::from_secs(1);
        watch.tick(*clock);
        if !upstream.health(0).ejected {
            return seconds;
        }
    }
    0
}

#[test]
fn ejections_in_a_row_grow_and_good_conduct_makes_up_for_them() {
    let upstream = upstream(
        2,
        "outlier = { failures = 1, eject_time = '1s', max_eject_time = '5s' }",
    );
    let mut watch = Watch::new(upstream);
    let mut clock = now();
    let out = [(); 4].map(|()| seconds_out(&mut watch, &mut clock));
    assert_eq!(out, [1, 2, 4, 5]);
    // As long as the last ejection for each.
    for _ in 0..20 {
        clock += Duration::from_secs(5);
        watch.tick(clock);
    }
    assert_eq!(seconds_out(&mut watch, &mut clock), 1);
}

#[test]
fn an_endpoint_that_is_back_gets_its_weight_little_by_little() {
    let upstream = upstream(
        2,
        "slow_start = '10s'\noutlier = { failures = 1, eject_time = '1s' }",
    );
    let mut watch = Watch::new(Arc::clone(&upstream));
    let mut clock = now();
    assert_eq!(seconds_out(&mut watch, &mut clock), 1);
    assert_eq!(upstream.health(0).share, SHARE_FIRST);
    let mut shares = vec![SHARE_FIRST];
    for _ in 0..105 {
        watch.tick(clock);
        clock += TICK;
        let share = upstream.health(0).share;
        if share != *shares.last().unwrap() {
            shares.push(share);
        }
    }
    assert!(shares.is_sorted() && shares.len() <= 40, "{shares:?}");
    assert_eq!(upstream.health(0).share, SHARE_WHOLE);
    assert_eq!(
        share_after(Duration::from_secs(5), Duration::from_secs(10)),
        550
    );
}

/// What a check of an HTTP server comes to that answers `answer`.
async fn check_of(answer: &'static str, lines: &str) -> Result<(), String> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let count = stream.read(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head[..count]);
        assert!(
            head.starts_with("GET /health?x HTTP/1.1\r\nHost: "),
            "{head}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Open until the check has seen enough.
        drop(stream.read(&mut [0; 1]).await);
    });
    let mut config = health(lines);
    if let Some(http) = &mut config.http {
        http.path = "/health?x".to_owned();
    }
    let each = crate::config::EndpointConfig {
        address: EndpointAddress::Socket(address),
        weight: std::num::NonZeroU32::MIN,
        priority: 0,
    };
    let text = address.to_string();
    let endpoint = Endpoint::new(Target::Tcp(address), text.clone(), text, &each, 1);
    check(&endpoint, &config).await
}

#[tokio::test]
async fn a_check_goes_by_the_final_status() {
    let path = "path = '/x', timeout = '10s'";
    assert_eq!(check_of("HTTP/1.1 204 No\r\n\r\n", path).await, Ok(()));
    let interim = "HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(check_of(interim, path).await, Ok(()));
    let broken = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(check_of(broken, path).await, Err("status 503".to_owned()));
    let wide = "path = '/x', timeout = '10s', expect = ['200', '500-599']";
    assert_eq!(check_of(broken, wide).await, Ok(()));
    assert!(check_of("SSH-2.0-x\r\n", path).await.is_err());
}

#[tokio::test]
async fn a_check_without_an_answer_fails_in_time() {
    let late = check_of("HTTP/1.1 200", "path = '/x', timeout = '50ms'").await;
    assert_eq!(late, Err("no answer in time".to_owned()));
}
