//! A mix of requests from a file.

use std::path::PathBuf;

use crate::support::{DRIVERS, Upstream, load, recording, run};

fn file(name: &str, text: &str) -> PathBuf {
    let path =
        std::env::temp_dir().join(format!("ringgate-load-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn requests_are_mixed_by_their_weights_and_reported_apart() {
    let text = "
        [[requests]]
        name = 'read'
        weight = 9
        path = '/'
        [[requests]]
        method = 'HEAD'
        path = '/bytes/5000'
        [[requests]]
        name = 'refused'
        path = '/status/429'
        expect = [429]
        [[requests]]
        name = 'broken'
        path = '/status/500'
    ";
    let path = file("mix", text);
    for driver in DRIVERS {
        let upstream = Upstream::start(driver);
        let run = run(&[
            "--driver",
            driver,
            "-n",
            "2400",
            "-c",
            "4",
            "-t",
            "1",
            "--pipeline",
            "4",
            "--scenario",
            path.to_str().unwrap(),
            &upstream.url("/"),
        ]);
        assert_eq!(run.code, 1, "the broken ones are errors");
        let kinds = run.report["kinds"].as_array().unwrap();
        let names: Vec<&str> = kinds
            .iter()
            .map(|kind| kind["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["read", "HEAD /bytes/5000", "refused", "broken"]);
        let [read, head, refused, broken] =
            [0, 1, 2, 3].map(|kind| run.number(&format!("/kinds/{kind}/responses")));
        assert_eq!(read + head + refused + broken, 2400.0);
        // 9 of 12: 1800 with a deviation of 21; 1 of 12: 200 with a deviation of 14.
        assert!((1690.0..1910.0).contains(&read), "{read}");
        assert!(
            [head, refused, broken]
                .iter()
                .all(|count| (130.0..270.0).contains(count))
        );
        assert_eq!(run.number("/kinds/3/failed"), broken);
        assert_eq!(run.number("/kinds/2/failed"), 0.0);
        assert_eq!(run.number("/errors/status"), broken, "{:#}", run.report);
        assert_eq!(run.number("/kinds/0/latency/count"), read);
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn headers_and_bodies_come_from_the_file_and_common_headers_from_the_arguments() {
    let (address, heads) = recording();
    let path = file(
        "headers",
        "[[requests]]\npath = '/a/${counter}'\nheaders = { x-own = 'o', accept = 'json' }",
    );
    let url = format!("http://{address}");
    let run = run(&[
        "-n",
        "1",
        "-c",
        "1",
        "-H",
        "X-Common: c",
        "--scenario",
        path.to_str().unwrap(),
        &url,
    ]);
    assert_eq!(run.code, 0, "{:#}", run.report);
    let head = heads.try_iter().last().unwrap();
    let expected = format!(
        "GET /a/0 HTTP/1.1\r\nHost: {address}\r\naccept: json\r\nx-own: o\r\nx-common: c\r\n\r\n"
    );
    assert_eq!(head, expected);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_scenario_that_cannot_be_read_is_2_and_named() {
    let broken = file("broken", "[[requests]]\npath = '/'\nwieght = 2");
    let key = file("key", "[[requests]]\npath = '/${key}'");
    let place = file(
        "place",
        "# a mix\n[[requests]]\npath = '/a'\n[[requests]]\npath = '/${kye}'",
    );
    for (path, told) in [
        (&broken, "did you mean `weight`?"),
        (&broken, "line 3, column 1"),
        (&key, "--keys"),
        (&place, "line 4, request 2: `${kye}`"),
        (&place, "did you mean `${key}`?"),
        (&PathBuf::from("/no/such.toml"), "/no/such.toml"),
    ] {
        let output = load()
            .arg("--scenario")
            .arg(path)
            .arg("http://127.0.0.1:1/")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(told), "{stderr}");
    }
    std::fs::remove_file(broken).unwrap();
    std::fs::remove_file(place).unwrap();
    std::fs::remove_file(key).unwrap();
}

#[test]
fn the_scenario_of_the_page_is_read() {
    let page = include_str!("../../../docs/load-testing.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (scenario, _) = rest.split_once("```\n").unwrap();
    let path = file("page", scenario);
    let output = load()
        .args(["--keys", "uniform:10", "--check", "--scenario"])
        .arg(&path)
        .arg("http://127.0.0.1:1/")
        .output()
        .unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(scenario.matches("[[requests]]").count(), 2);
}
