//! Endpoints with names: what becomes of connections when a name's addresses change. The gateway has a file of hosts of its own.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::{Driver, Folder, Launch, Upstream, eventually_within, ok, skip, to_upstream};

/// Runs the gateway in a mount namespace where `/etc/hosts` is another file.
const WRAPPER: &str = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
/// A pass of the resolver begins ten seconds after the last.
const LONGEST: Duration = Duration::from_secs(60);

fn can_unshare() -> bool {
    let tried = Command::new("unshare").args(["-m", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

fn a_name_moves(driver: Driver, test: &str) {
    if !can_unshare() {
        return skip("a mount namespace", test);
    }
    let folder = Folder::new();
    let hosts = folder.path().join("hosts");
    let write = |address: &str| {
        // In place: the mount is of this very file.
        fs::write(
            &hosts,
            format!("127.0.0.1 localhost\n{address} moving.test\n"),
        )
        .unwrap();
    };
    write("127.0.0.1");
    let before = Upstream::saying("before");
    let port = before.address.port();
    let after = Upstream::start_at(([127, 0, 0, 2], port).into(), |mut exchange| {
        while exchange.request().is_some() && exchange.send(ok("after")) {}
    });
    let rest = to_upstream(&[], "keepalive_timeout = \"1h\"").replace(
        "endpoints = []",
        &format!("endpoints = [{{ address = \"moving.test:{port}\" }}]"),
    );
    let gateway = Launch::new(driver)
        .one_worker()
        .rest(&rest)
        .through(&[
            "unshare",
            "-m",
            "sh",
            "-c",
            WRAPPER,
            hosts.to_str().unwrap(),
        ])
        .start();
    for _ in 0..3 {
        assert_eq!(gateway.get("/").text(), "before");
    }
    assert_eq!(before.accepted(), 1, "one connection is kept");
    write("127.0.0.2");
    eventually_within(LONGEST, "the new address", || {
        (gateway.get("/").text() == "after").then_some(())
    });
    for _ in 0..10 {
        assert_eq!(gateway.get("/").text(), "after");
    }
    assert_eq!((before.accepted(), after.accepted()), (1, 1));
    eventually_within(LONGEST, "the old connection to be closed", || {
        let open = gateway.metric("ringgate_upstream_connections", &[]);
        (open == 1.0).then_some(())
    });
}

on_both_drivers! {
    fn a_name_that_moves_takes_its_connections_with_it(driver) {
        a_name_moves(driver, "names::a_name_that_moves_takes_its_connections_with_it");
    }
}
