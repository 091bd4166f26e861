//! The start: what a user reads, and one clear line for whatever is in the way.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use crate::support::{Driver, Ended, Folder, Launch, Upstream, eventually, skip, to_upstream};

const OWN: &str = "[[routes]]\nname = \"own\"\npath = \"/own\"\nrespond = { body = \"own\" }\n";

/// A configuration whose listener and admin are at these addresses.
fn at(listener: &str, admin: &str) -> String {
    format!(
        "version = 1\n[admin]\nlisten = \"{admin}\"\n[[listeners]]\nname = \"web\"\naddress = \"{listener}\"\n{OWN}"
    )
}

/// One line that says all of `parts`, and the exit code.
#[track_caller]
fn assert_fails(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{:?}", ended.stderr);
    let [line] = &ended.stderr[..] else {
        panic!("one line: {:?}", ended.stderr)
    };
    for part in parts {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }
}

/// `2026-01-31T23:59:59.123Z`, then a level.
fn begins_with_a_time(line: &str) -> bool {
    let shape: String = line
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    ["info  ", "warn  ", "error "]
        .iter()
        .any(|level| shape.starts_with(&format!("0000-00-00T00:00:00.000Z {level}")))
}

/// Runs a command's program as a user who owns nothing.
const AS_NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

fn may_change_user(name: &str) -> bool {
    let may = Command::new(AS_NOBODY[0])
        .args(&AS_NOBODY[1..])
        .arg("true")
        .output();
    let may = may.is_ok_and(|output| output.status.success());
    if !may {
        skip("right to change the user", name);
    }
    may
}

on_both_drivers! {
    fn what_listens_where_and_on_what_is_told_in_lines_with_time_and_level(driver) {
        let gateway = Launch::new(driver).rest(OWN).start();
        let said = gateway.said();
        let pages = gateway::control::admin::paths();
        for part in [
            format!("Z info  listening address=http://{} listener=web", gateway.address),
            format!("Z info  admin address=http://{} pages=\"{pages}\"", gateway.admin),
            format!(" workers=2 driver={} ring=", driver.name()),
            format!("info  serving version={} config=/", env!("CARGO_PKG_VERSION")),
        ] {
            assert!(said.iter().any(|line| line.contains(&part)), "{part:?} in: {said:?}");
        }
        let flags = if driver == Driver::IoUring { "ring=SINGLE_ISSUER" } else { "ring=-" };
        assert!(said.iter().any(|line| line.contains(flags)), "{said:?}");
        gateway.signal(libc::SIGHUP);
        eventually("the answer to a signal", || gateway.said().iter().any(|line| line.contains("SIGHUP")).then_some(()));
        for line in gateway.said() {
            assert!(begins_with_a_time(&line), "{line}");
        }
    }

    fn the_journal_gets_priorities_in_place_of_times(driver) {
        // As systemd does it: standard error is the stream that the variable names.
        let journal = "export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2); exec \"$@\"";
        let gateway = Launch::new(driver).through(&["sh", "-c", journal, "sh"]).rest(OWN).start();
        gateway.signal(libc::SIGHUP);
        eventually("the answer to a signal", || gateway.said().iter().any(|line| line.contains("SIGHUP")).then_some(()));
        for line in gateway.said() {
            assert!(line.starts_with("<6>info  ") || line.starts_with("<4>warn  "), "{line}");
        }
        // Inherited by a process whose standard error is something else.
        let gateway = Launch::new(driver).environment("JOURNAL_STREAM", "1:1").rest(OWN).start();
        assert!(begins_with_a_time(&gateway.said()[0]), "{:?}", gateway.said());
    }

    fn a_port_in_use_is_one_line_with_a_remedy(driver) {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let ended = Launch::new(driver).whole(&at(&address, "127.0.0.1:0")).fail();
        assert_fails(&ended, 1, &["cannot listen on", &address, "(web)", "another process", "ss -ltnp"]);
        let ended = Launch::new(driver).whole(&at("127.0.0.1:0", &address)).fail();
        assert_fails(&ended, 1, &["cannot listen on", &address, "(admin)", "another process"]);
    }

    fn two_gateways_do_not_share_a_port(driver) {
        let first = Launch::new(driver).rest(OWN).start();
        let address = first.address.to_string();
        let ended = Launch::new(driver).whole(&at(&address, "127.0.0.1:0")).fail();
        assert_fails(&ended, 1, &["cannot listen on", &address]);
    }

    fn no_permission_for_a_port_is_one_line_with_a_remedy(driver) {
        if !may_change_user("startup::no_permission_for_a_port_is_one_line_with_a_remedy") {
            return;
        }
        let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
        if start.trim().parse::<u16>().unwrap() < 2 {
            return skip("privileged port", "startup::no_permission_for_a_port_is_one_line_with_a_remedy");
        }
        let ended = Launch::new(driver).through(&AS_NOBODY).whole(&at("127.0.0.1:1", "127.0.0.1:0")).fail();
        assert_fails(&ended, 1, &["cannot listen on 127.0.0.1:1", "CAP_NET_BIND_SERVICE", "1024"]);
    }

    fn an_address_of_another_host_is_one_line_with_a_remedy(driver) {
        // 192.0.2.0/24 is for documentation (RFC 5737): no host has it.
        let ended = Launch::new(driver).whole(&at("192.0.2.1:8080", "127.0.0.1:0")).fail();
        assert_fails(&ended, 1, &["cannot listen on 192.0.2.1:8080", "no such address"]);
    }

    fn too_few_descriptors_are_one_line_with_a_remedy(driver) {
        let ended = Launch::new(driver).through(&["sh", "-c", "ulimit -n 20; exec \"$@\"", "sh"]).rest(OWN).fail();
        assert_fails(&ended, 1, &["too few file descriptors", "20", "ulimit -n"]);
    }

    fn a_bad_configuration_is_told_with_its_place_and_all_at_once(driver) {
        let text = "version = 1\n[[listeners]]\nname = \"web\"\nadress = \"127.0.0.1:0\"\n\
                    [[routes]]\nname = \"r\"\npath = \"/\"\nupstream = \"nowhere\"\n";
        let ended = Launch::new(driver).whole(text).fail();
        assert_eq!(ended.code, Some(78), "{:?}", ended.stderr);
        let file = ended.config.display().to_string();
        let has = |start: &str, part: &str| {
            let start = format!("{file}:{start}: ");
            assert!(
                ended.stderr.iter().any(|line| line.starts_with(&start) && line.contains(part)),
                "{start}{part} in {:?}", ended.stderr
            );
        };
        has("4:1", "did you mean `address`");
        has("8:12", "nowhere");
    }

    fn a_section_that_nothing_names_is_a_warning_with_its_place_and_it_starts(driver) {
        let unused = "[upstreams.spare]\nendpoints = [{ address = \"127.0.0.1:1\" }]\n";
        let gateway = Launch::new(driver).rest(&format!("{OWN}{unused}")).start();
        assert_eq!(gateway.get("/own").status, 200);
        let said = gateway.said();
        let told: Vec<_> = said.iter().filter(|line| line.contains("the configuration is doubtful")).collect();
        let (place, rest) = told[0].split_once("ringgate.toml:").unwrap();
        assert!(told.len() == 1 && place.contains(" warn ") && place.contains(" at=/"), "{told:?}");
        let end = ":12 key=upstreams.spare problem=\"no route and no authenticator names it\"";
        assert!(rest.ends_with(end), "{told:?}");
    }

    fn a_configuration_that_is_not_there_is_one_line(driver) {
        let ended = Launch::new(driver).through(&["sh", "-c", "rm \"$4\"; exec \"$@\"", "sh"]).fail();
        assert_fails(&ended, 78, &["ringgate.toml", "cannot be read", "No such file"]);
    }

    fn an_access_log_that_cannot_be_opened_is_one_line_with_a_remedy(driver) {
        let ended = Launch::new(driver).access_log("path = \"/nowhere/access.log\"\n").rest(OWN).fail();
        assert_fails(&ended, 1, &["/nowhere/access.log", "No such file", "create the folder"]);
    }

    fn an_access_log_without_permission_is_one_line_with_a_remedy(driver) {
        if !may_change_user("startup::an_access_log_without_permission_is_one_line_with_a_remedy") {
            return;
        }
        let folder = Folder::new();
        let path = folder.path().join("access.log");
        let ended = Launch::new(driver)
            .through(&AS_NOBODY)
            .access_log(&format!("path = \"{}\"\n", path.display()))
            .rest(OWN)
            .fail();
        assert_fails(&ended, 1, &[&path.display().to_string(), "Permission denied", "writable"]);
    }

    fn files_of_keys_are_read_by_a_group_and_a_secret_as_a_credential_of_systemd(driver) {
        let name = "startup::files_of_keys_are_read_by_a_group_and_a_secret_as_a_credential_of_systemd";
        if !may_change_user(name) {
            return;
        }
        let (folder, credentials) = (Folder::new(), Folder::new());
        let (keys, secret) = (folder.path().join("api-keys"), credentials.path().join("jwt-secret"));
        fs::write(&keys, "").unwrap();
        fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
        let (group, nobody) = (65533, 65534);
        chown(&keys, Some(0), Some(group)).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o640)).unwrap();
        for (path, mode) in [(secret.as_path(), 0o400), (credentials.path(), 0o500)] {
            chown(path, Some(nobody), Some(nobody)).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let rest = format!(
            "[api_keys.a]\nfile = {keys:?}\n[jwt.b]\nissuer = \"a\"\naudience = \"b\"\nalgorithms = [\"HS256\"]\n\
             secret_file = \"${{CREDENTIALS_DIRECTORY}}/jwt-secret\"\n{OWN}"
        );
        let launch = |groups: &str| {
            Launch::new(driver)
                .through(&["setpriv", "--reuid=65534", "--regid=65534", groups])
                .environment("CREDENTIALS_DIRECTORY", &credentials.path().display().to_string())
                .rest(&rest)
        };
        let gateway = launch(&format!("--groups={group}")).start();
        assert_eq!(gateway.get("/own").text(), "own");
        drop(gateway);
        let ended = launch("--clear-groups").fail();
        assert_fails(&ended, 78, &["api_keys.a.file", "api-keys cannot be read: Permission denied"]);
    }

    fn values_of_the_configuration_come_from_the_environment(driver) {
        let upstream = Upstream::saying("ok");
        let text = to_upstream(&[upstream.address], "").replace(&upstream.address.to_string(), "${UPSTREAM}");
        let gateway = Launch::new(driver)
            .environment("UPSTREAM", &upstream.address.to_string())
            .rest(&text)
            .start();
        assert_eq!(gateway.get("/").text(), "ok");
    }
}

/// What follows is about the choice of a driver itself.
mod choice {
    use crate::support::{Driver, Launch, deny_io_uring, has_io_uring};

    use super::{OWN, assert_fails};

    #[test]
    fn a_denied_ring_means_epoll_and_one_line_that_says_why() {
        let gateway = Launch::new(Driver::IoUring)
            .prepare(deny_io_uring)
            .reporting(Driver::Epoll)
            .rest(OWN)
            .start();
        assert_eq!(gateway.get("/own").text(), "own");
        let said = gateway.said();
        let reasons: Vec<_> = said
            .iter()
            .filter(|line| line.contains("io_uring unavailable"))
            .collect();
        let [reason] = reasons[..] else {
            panic!("one line: {said:?}")
        };
        for part in ["Operation not permitted", "seccomp", "io_uring_setup"] {
            assert!(reason.contains(part), "{part:?} in {reason:?}");
        }
    }

    #[test]
    fn a_denied_ring_is_no_start_where_the_ring_is_demanded() {
        let ended = Launch::new(Driver::IoUring)
            .prepare(deny_io_uring)
            .runtime("driver = \"io_uring\"")
            .rest(OWN)
            .fail();
        assert_fails(
            &ended,
            1,
            &["io_uring unavailable", "Operation not permitted", "seccomp"],
        );
    }

    #[test]
    fn a_ring_that_is_demanded_is_had() {
        if has_io_uring("startup::choice::a_ring_that_is_demanded_is_had") {
            let gateway = Launch::new(Driver::IoUring)
                .runtime("driver = \"io_uring\"")
                .rest(OWN)
                .start();
            assert_eq!(gateway.get("/own").text(), "own");
        }
    }

    #[test]
    fn epoll_can_be_chosen_and_ends_in_order() {
        let mut gateway = Launch::new(Driver::IoUring)
            .runtime("driver = \"epoll\"")
            .reporting(Driver::Epoll)
            .rest(OWN)
            .start();
        assert_eq!(gateway.get("/own").text(), "own");
        assert!(
            !gateway
                .said()
                .iter()
                .any(|line| line.contains("io_uring unavailable"))
        );
        gateway.signal(libc::SIGTERM);
        assert_eq!(gateway.exit_code(), Some(0));
        assert!(
            !gateway
                .said()
                .iter()
                .any(|line| line.contains("the drain's time is over"))
        );
    }
}
