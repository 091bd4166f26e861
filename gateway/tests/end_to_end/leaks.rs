//! Clients that come and go, in every state that a connection can be in: what they took comes back.

use std::time::{Duration, Instant};

use crate::support::{Client, Driver, Gateway, Launch, Upstream, eventually, ok, to_upstream};

/// Memory that a gateway may have more of after a round of cycles than before. A buffer or a connection's state lost
/// in each of a thousand cycles is far beyond it.
const GROWTH_MAX: u64 = 256 << 10;
/// How many clients are open at once depends on chance, and so does how much lies between what stays: the first rounds
/// may grow, a leak grows in all of them.
const ROUNDS_MAX: usize = 10;
/// Memory goes back by halves each second, and two seconds later to the kernel: it has come to rest when it has not
/// fallen for so long.
const REST: Duration = Duration::from_secs(3);
/// Cycles before the measurement: what is made once is there then.
const WARM_UP: usize = 200;

/// In which state a client breaks off.
#[derive(Clone, Copy, Debug)]
enum State {
    Connected,
    InTheHead,
    InTheRequestBody,
    WaitingForTheAnswer,
    InTheResponseBody,
    Idle,
    WithMoreBehind,
    InATunnel,
}

const STATES: [State; 8] = [
    State::Connected,
    State::InTheHead,
    State::InTheRequestBody,
    State::WaitingForTheAnswer,
    State::InTheResponseBody,
    State::Idle,
    State::WithMoreBehind,
    State::InATunnel,
];

/// One client's life. How it ends takes turns, a close and a reset; but who has sent a whole request and closes may
/// still read, and is waited for.
fn live(gateway: &Gateway, state: State, number: usize) {
    let mut client = Client::connect(gateway.address);
    match state {
        State::Connected => {}
        State::InTheHead => client.send("GET / HTTP/1.1\r\nHost: te"),
        State::InTheRequestBody => {
            client.send("POST /never HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nsome");
        }
        State::WaitingForTheAnswer => client.send("GET /never HTTP/1.1\r\nHost: test\r\n\r\n"),
        State::InTheResponseBody => {
            client.send("GET /endless HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(client.head().unwrap().status, 200);
        }
        State::Idle => assert_eq!(client.get("/").text(), "ok"),
        State::WithMoreBehind => client.send("GET /endless HTTP/1.1\r\nHost: test\r\n\r\nGET"),
        State::InATunnel => {
            client.send(
                "GET /tunnel HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            );
            assert_eq!(client.head().unwrap().status, 101);
        }
    }
    if number.is_multiple_of(2) || matches!(state, State::WaitingForTheAnswer) {
        client.abort();
    }
}

fn cycles_leave_nothing(driver: Driver, cycles: usize) {
    let upstream = Upstream::start(|mut exchange| {
        while let Some(request) = exchange.head() {
            match request.target() {
                "/tunnel" => {
                    exchange.send("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
                    return exchange.wait_closed();
                }
                "/never" => return exchange.wait_closed(),
                "/endless" => {
                    exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    while exchange.send(format!("1000\r\n{}\r\n", "x".repeat(4096))) {}
                }
                _ => drop(exchange.send(ok("ok"))),
            }
        }
    });
    let gateway = Launch::new(driver)
        .access_log("path = \"off\"\n")
        .rest(&to_upstream(
            &[upstream.address],
            "keepalive_max = 0\nconnect_timeout = \"30s\"",
        ))
        .rest("upgrade = [\"x\"]")
        .start();
    for state in STATES {
        (0..WARM_UP).for_each(|number| live(&gateway, state, number));
    }
    let (mut grown, mut still) = (Vec::new(), 0);
    let mut resident = at_rest(&gateway);
    while still < 2 {
        assert!(
            grown.len() < ROUNDS_MAX,
            "grows by {grown:?} bytes in rounds of {cycles} cycles in each state"
        );
        for state in STATES {
            round(&gateway, state, cycles);
        }
        let now = at_rest(&gateway);
        let growth = now.saturating_sub(resident);
        resident = now;
        still = if growth <= GROWTH_MAX { still + 1 } else { 0 };
        grown.push(growth);
    }
}

/// So many cycles; descriptors are as many afterwards as before.
fn round(gateway: &Gateway, state: State, cycles: usize) {
    gateway.wait_until_quiet();
    let files = gateway.open_files();
    (0..cycles).for_each(|number| live(gateway, state, number));
    gateway.wait_until_quiet();
    eventually("as many descriptors as before", || {
        (gateway.open_files() <= files).then_some(())
    });
    assert_eq!(gateway.get("/").text(), "ok", "{state:?}");
}

/// The gateway's memory when what it gives back has gone back.
fn at_rest(gateway: &Gateway) -> u64 {
    let (mut least, mut since) = (gateway.resident_bytes(), Instant::now());
    eventually("memory at rest", || {
        let now = gateway.resident_bytes();
        if now < least {
            (least, since) = (now, Instant::now());
        }
        (since.elapsed() > REST).then_some(least)
    })
}

on_both_drivers! {
    fn clients_that_break_off_leave_nothing_behind(driver) {
        cycles_leave_nothing(driver, 1_000);
    }

    #[ignore = "takes minutes: `cargo test -- --ignored soak`"]
    fn soak_clients_that_break_off_leave_nothing_behind(driver) {
        cycles_leave_nothing(driver, 10_000);
    }
}
