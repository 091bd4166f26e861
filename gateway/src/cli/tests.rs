//! What the command line says, and what `check` reports.

use super::*;

fn parse(line: &str) -> Result<Invocation, clap::Error> {
    Invocation::parse(line.split_whitespace(), None)
}

#[test]
fn the_environment_names_a_configuration_where_the_line_does_not() {
    let config =
        |line: &str, env: &str| match Invocation::parse(line.split_whitespace(), Some(env.into()))
            .unwrap()
        {
            Invocation::Run(run) => run.config,
            Invocation::Check(check) => Some(check.config),
            Invocation::HashKey(_) | Invocation::HashPassword(_) => None,
            Invocation::Bench(bench) => Some(bench.config),
            Invocation::Explain(explain) => explain.config,
        };
    for line in ["ringgate", "ringgate run", "ringgate check", "ringgate -t"] {
        assert_eq!(config(line, "e.toml"), Some("e.toml".into()), "{line}");
        assert_eq!(
            config(&format!("{line} -c a.toml"), "e.toml"),
            Some("a.toml".into()),
            "{line}"
        );
    }
    assert_eq!(config("ringgate", ""), None);
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn no_command_runs() {
    let run = |config: Option<&str>, workers| {
        Invocation::Run(RunArgs {
            config: config.map(PathBuf::from),
            workers,
        })
    };
    assert_eq!(parse("ringgate").unwrap(), run(None, None));
    assert_eq!(parse("ringgate run").unwrap(), run(None, None));
    assert_eq!(
        parse("ringgate -c a.toml").unwrap(),
        run(Some("a.toml"), None)
    );
    let two = NonZeroUsize::new(2);
    assert_eq!(
        parse("ringgate run --config a.toml --workers 2").unwrap(),
        run(Some("a.toml"), two)
    );
}

#[test]
fn check_goes_by_three_names() {
    let check = |format| {
        Invocation::Check(CheckArgs {
            config: "a.toml".into(),
            format,
            verbose: false,
        })
    };
    for line in [
        "ringgate check -c a.toml",
        "ringgate validate -c a.toml",
        "ringgate -t -c a.toml",
    ] {
        assert_eq!(parse(line).unwrap(), check(CheckFormat::Text), "{line}");
    }
    let json = parse("ringgate check --format json -c a.toml").unwrap();
    assert_eq!(json, check(CheckFormat::Json));
}

#[test]
fn wrong_usage_ends_with_code_2() {
    for line in [
        "ringgate check",
        "ringgate -t",
        "ringgate nonsense",
        "ringgate run --workers 0",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn a_configuration_without_its_option_is_told_the_option() {
    for line in [
        "ringgate a.toml",
        "ringgate run a.toml",
        "ringgate check a.toml",
    ] {
        let said = parse(line).unwrap_err().to_string();
        assert!(
            said.contains("tip: a configuration is given as `-c a.toml`"),
            "{said}"
        );
    }
    let said = parse("ringgate chekc").unwrap_err().to_string();
    assert!(said.contains("'check'"), "{said}");
    assert!(
        !parse("ringgate run a")
            .unwrap_err()
            .to_string()
            .contains("-c")
    );
}

#[test]
fn help_and_version_end_with_code_0() {
    for line in [
        "ringgate --help",
        "ringgate -V",
        "ringgate --version",
        "ringgate check --help",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 0, "{line}");
    }
    assert!(
        parse("ringgate --help")
            .unwrap_err()
            .to_string()
            .contains("Examples:")
    );
}

#[test]
fn an_unreadable_file_is_a_bad_configuration() {
    let arguments = CheckArgs {
        config: "/nonexistent/x.toml".into(),
        format: CheckFormat::Text,
        verbose: false,
    };
    let mut out = Vec::new();
    let code = check(&arguments, &|_| None, &mut out, &mut Vec::new()).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert_eq!(code, EXIT_CONFIG);
    assert!(
        out.starts_with("/nonexistent/x.toml: error: cannot be read: No such file"),
        "{out}"
    );
}

fn check_text(name: &str, text: &str, format: CheckFormat, verbose: bool) -> (u8, String) {
    let (code, out, told) = check_and_warn(name, text, format, verbose);
    assert_eq!(told, "");
    (code, out)
}

/// Exit code, report and warnings, these without the path of the file.
fn check_and_warn(
    name: &str,
    text: &str,
    format: CheckFormat,
    verbose: bool,
) -> (u8, String, String) {
    let file = format!("ringgate-{name}-{}.toml", std::process::id());
    let path = std::env::temp_dir().join(file);
    std::fs::write(&path, text).unwrap();
    let arguments = CheckArgs {
        config: path.clone(),
        format,
        verbose,
    };
    let (mut out, mut told) = (Vec::new(), Vec::new());
    let code = check(&arguments, &|_| None, &mut out, &mut told).unwrap();
    std::fs::remove_file(&path).unwrap();
    let told = String::from_utf8(told).unwrap();
    let told = told.replace(&format!("{}:", path.display()), "");
    (code, String::from_utf8(out).unwrap(), told)
}

/// One of each section that others refer to, and none that does.
const UNUSED: &str = r#"listeners = [{ name = "a", address = "[::]:0" }]
[upstreams.users]
endpoints = [{ address = "a:1" }]
[limits.each]
rate = "5/s"
[network_lists.inside]
otherwise = "deny"
[cors.web]
origins = ["*"]
[filters.json]
methods = ["GET"]
[security_headers.page]
nosniff = true
[bans.rude]
[error_bodies.own]
bodies = [{ status = 404, body = "no" }]
[consumers.ada]
"#;

#[test]
fn sections_that_nothing_names_are_doubted_and_no_mistake() {
    let (code, out, told) = check_and_warn("unused", UNUSED, CheckFormat::Text, false);
    assert_eq!((code, &*out), (EXIT_OK, "ok\n"), "{told}");
    let told: Vec<_> = told.lines().collect();
    let expected = [
        "2:12: warning: upstreams.users: no route and no authenticator names it",
        "4:9: warning: limits.each: no route names it",
        "6:16: warning: network_lists.inside: no route names it",
        "8:7: warning: cors.web: no route names it",
        "10:10: warning: filters.json: no route names it",
        "12:19: warning: security_headers.page: no route names it",
        "14:7: warning: bans.rude: no listener names it",
        "15:15: warning: error_bodies.own: no listener and no route names it",
        "17:12: warning: consumers.ada: no authenticator is there that could know it",
    ];
    assert_eq!(told, expected);
    let (_, out, told) = check_and_warn("unused-json", UNUSED, CheckFormat::Json, false);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((told.as_str(), &report["ok"]), ("", &true.into()));
    assert_eq!(report["warnings"].as_array().unwrap().len(), 9);
    assert_eq!(report["warnings"][0]["line"], 2);
    assert_eq!(report["warnings"][0]["key"], "upstreams.users");
}

#[test]
fn a_section_that_something_names_is_not_doubted() {
    let used = r#"
        auth = ["gate"]
        limits = ["each"]
        network_lists = ["inside"]
        cors = "web"
        filters = ["json"]
        security_headers = "page"
        error_bodies = "own"
        split = [{ upstream = "users" }]
        [forward_auth.gate]
        upstream = "sso"
        [upstreams.sso]
        endpoints = [{ address = "a:1" }]
        [forward_auth.spare]
        upstream = "sso"
    "#;
    let listener = r#"address = "[::]:0", ban = "rude" }]"#;
    let text = UNUSED.replace(r#"address = "[::]:0" }]"#, listener);
    let text = format!("{text}[[routes]]\nname = \"r\"\n{used}");
    let (code, out, told) = check_and_warn("used", &text, CheckFormat::Text, false);
    assert_eq!((code, &*out), (EXIT_OK, "ok\n"), "{out}");
    assert_eq!(
        told,
        "33:23: warning: forward_auth.spare: no route names it\n"
    );
}

#[test]
fn a_log_that_could_not_be_opened_is_doubted() {
    for (path, problem) in [
        (
            "/nonexistent/a.log",
            "its folder cannot be used: No such file or directory (os error 2)",
        ),
        ("/dev/null/a.log", "what should be its folder is a file"),
        ("/dev", "it is a folder"),
    ] {
        let text = format!(
            "listeners = [{{ name = 'a', address = '[::]:0' }}]\n[log.access]\npath = '{path}'\n"
        );
        let (code, out, told) = check_and_warn("log", &text, CheckFormat::Text, false);
        assert_eq!((code, &*out), (EXIT_OK, "ok\n"));
        let end = "; the gateway makes no folder, and would not start here\n";
        assert_eq!(
            told,
            format!("3:8: warning: log.access.path: {problem}{end}")
        );
    }
}

#[test]
fn the_example_is_ok_in_both_formats() {
    let text = include_str!("../../../examples/ringgate.toml");
    let (code, out) = check_text("ok", text, CheckFormat::Text, false);
    assert_eq!((code, &*out), (EXIT_OK, "ok\n"));
    let (code, out) = check_text("ok-json", text, CheckFormat::Json, false);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["ok"]), (EXIT_OK, &true.into()));
    assert_eq!(report["limits"][0]["name"], "per_client");
    assert_eq!(report["limits"][0]["covers"], "process");
}

const LIMITS: &str =
    "listeners = [{ name = 'a', address = '127.0.0.1:0' }]\nruntime = { workers = 2 }\n";

#[test]
fn a_verbose_check_tells_memory_keys_and_cover_of_each_limit() {
    let text = format!(
        "{LIMITS}[limits.a]\nrate = '5/s'\n[limits.b]\nrate = '1/m'\nmode = 'shadow'\nmax_keys = 1000000\n\
         overrides = [{{ key = '10.0.0.0/8', mode = 'off' }}, {{ key = '10.1.0.0/16', rate = '9/s' }}]\n"
    );
    let (code, out, _) = check_and_warn("verbose", &text, CheckFormat::Text, true);
    assert_eq!(code, EXIT_OK);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "ok");
    let number = |line: &str, after: &str| {
        let rest = line.split_once(after).unwrap().1.trim_start();
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        digits.parse::<u64>().unwrap()
    };
    assert!(lines[1].starts_with("limit a: 4.0 MiB, "), "{out}");
    assert!(
        (135_000..140_000).contains(&number(lines[1], "MiB,")),
        "{out}"
    );
    assert!(
        lines[1].ends_with(" keys, covers the process exactly (all 2 workers together)"),
        "{out}"
    );
    // A million keys, and the 65,536 addresses of the override.
    assert!(
        (1_065_536..1_066_000).contains(&number(lines[2], "MiB,")),
        "{out}"
    );
    assert!(
        lines[2].ends_with(
            "shadow: counts over the process, refuses nothing (all 2 workers together), 2 overrides"
        ),
        "{out}"
    );
}

#[test]
fn memory_too_small_for_the_workers_is_a_bad_configuration() {
    let text = LIMITS.replace("workers = 2", "workers = 128");
    let text = format!("{text}[limits.a]\nrate = '5/s'\nmax_keys = '64KiB'\n");
    let (code, out) = check_text("small", &text, CheckFormat::Text, false);
    assert_eq!(code, EXIT_CONFIG);
    assert!(out.contains("limits.a: 65536 bytes are too few"), "{out}");
}

#[test]
fn json_reports_every_problem_with_its_place() {
    let path = std::env::temp_dir().join(format!("ringgate-check-{}.toml", std::process::id()));
    std::fs::write(&path, "version = 1\nfrobs = 2\n").unwrap();
    let mut out = Vec::new();
    let arguments = CheckArgs {
        config: path.clone(),
        format: CheckFormat::Json,
        verbose: false,
    };
    let code = check(&arguments, &|_| None, &mut out, &mut Vec::new()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        (code, &report["ok"]),
        (EXIT_CONFIG, &serde_json::json!(false))
    );
    assert_eq!(report["errors"].as_array().unwrap().len(), 2);
    let second = &report["errors"][1];
    assert_eq!(second["file"], path.to_str().unwrap());
    assert_eq!((&second["line"], &second["column"]), (&2.into(), &1.into()));
    assert_eq!(second["key"], "frobs");
}
