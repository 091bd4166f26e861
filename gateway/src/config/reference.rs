//! The reference of every key, made from the same rows that the reader goes by.

use std::fmt::Write as _;

use super::key::{Keys, Row};
use super::{
    api_keys, bans, basic_auth, consumers, cors, error_bodies, filters, forward_auth, health, jwt,
    limits, listeners, load, network_lists, respond, retry, rewrite, routes, runtime,
    security_headers, telemetry, upstreams,
};

/// The sections in the order of the page.
static SECTIONS: [&Keys; 32] = [
    &load::KEYS,
    &runtime::KEYS,
    &telemetry::ADMIN_KEYS,
    &telemetry::LOG_KEYS,
    &telemetry::ACCESS_KEYS,
    &telemetry::CLIENT_IP_KEYS,
    &listeners::KEYS,
    &upstreams::KEYS,
    &upstreams::ENDPOINT_KEYS,
    &health::HEALTH_KEYS,
    &health::OUTLIER_KEYS,
    &retry::RETRY_KEYS,
    &limits::KEYS,
    &limits::OVERRIDE_KEYS,
    &network_lists::KEYS,
    &cors::KEYS,
    &filters::KEYS,
    &security_headers::KEYS,
    &bans::KEYS,
    &error_bodies::KEYS,
    &error_bodies::BODY_KEYS,
    &consumers::KEYS,
    &api_keys::KEYS,
    &jwt::KEYS,
    &basic_auth::KEYS,
    &forward_auth::KEYS,
    &routes::KEYS,
    &respond::KEYS,
    &rewrite::REDIRECT_KEYS,
    &rewrite::SPLIT_KEYS,
    &rewrite::KEYS,
    &rewrite::EDIT_KEYS,
];

/// Every key with its values, default and cost, as Markdown: the part of `docs/configuration.md` between its marks.
pub fn reference() -> String {
    let mut page = String::new();
    for keys in SECTIONS {
        let text = keys.text;
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "### `{}`\n\n{text}\n\n| key | value | default | what it does |\n|---|---|---|---|",
            keys.header
        );
        for row in keys.rows {
            page.push_str(&line(*row));
        }
        if !keys.unsupported.is_empty() {
            let _ = writeln!(
                page,
                "\nNot in this version: `{}`.",
                keys.unsupported.join("`, `")
            );
        }
        page.push('\n');
    }
    page
}

fn line(row: &dyn Row) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    format!(
        "| `{}` | {} | {} | {} |\n",
        row.name(),
        cell(&row.expects()),
        cell(&row.default()),
        cell(row.text())
    )
}

#[cfg(test)]
mod tests {
    use super::{SECTIONS, reference};
    use crate::config::{ConfigSource, load};

    const BEGIN: &str = "<!-- keys: begin -->\n";
    const END: &str = "<!-- keys: end -->";

    /// `RINGGATE_WRITE_DOCS=1` writes the page instead of comparing it.
    #[test]
    fn the_page_says_what_the_rows_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (written, after) = rest.split_once(END).unwrap();
        let keys = format!("\n{}", reference());
        if std::env::var_os("RINGGATE_WRITE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{keys}{END}{after}")).unwrap();
        } else {
            assert_eq!(
                written, keys,
                "docs/configuration.md is old: RINGGATE_WRITE_DOCS=1 writes it"
            );
        }
    }

    /// The text of a file in which a section holds these lines.
    fn with_section(header: &str, lines: &str) -> String {
        let listener = "[[listeners]]\nname = 'a'\naddress = '[::]:0'\n";
        let upstream = "[upstreams.NAME]\nendpoints = [{ address = 'a:1' }]\n";
        let respond = "[[routes]]\nname = 'r'\nrespond = {}\n";
        match header {
            "top level" => format!("{lines}{listener}"),
            "[[listeners]]" => format!("{listener}{lines}"),
            "[upstreams.NAME]" => format!("{listener}{upstream}{lines}"),
            "upstreams.NAME.endpoints" => {
                format!("{listener}[[upstreams.NAME.endpoints]]\naddress = 'a:1'\n{lines}")
            }
            "[limits.NAME]" => format!("{listener}{header}\nrate = '5/s'\n{lines}"),
            "upstreams.NAME.health" if !lines.starts_with("path") => {
                format!("{listener}{upstream}[{header}]\npath = '/'\n{lines}")
            }
            "upstreams.NAME.health" | "upstreams.NAME.outlier" | "upstreams.NAME.retry" => {
                format!("{listener}{upstream}[{header}]\n{lines}")
            }
            "[network_lists.NAME]" => format!("{listener}{header}\notherwise = 'deny'\n{lines}"),
            "[cors.NAME]" if !lines.starts_with("origins") => {
                format!("{listener}{header}\norigins = ['*']\n{lines}")
            }
            "[jwt.NAME]" if lines.starts_with("jwks_") => format!(
                "{listener}{header}\nissuer = 'any'\naudience = 'any'\njwks_url = 'https://a.test/'\n{lines}"
            ),
            "[jwt.NAME]" => format!(
                "{listener}{header}\nissuer = 'any'\naudience = 'any'\nkey_file = 'tests/keys/p256.pem'\n{lines}"
            ),
            "[basic_auth.NAME]" => format!("{listener}{header}\nfile = '/dev/null'\n{lines}"),
            "[api_keys.NAME]" => format!("{listener}{header}\nfile = '/dev/null'\n{lines}"),
            "[forward_auth.NAME]" => {
                format!("{listener}{upstream}{header}\nupstream = 'NAME'\n{lines}")
            }
            "limits.NAME.overrides" => {
                format!(
                    "{listener}[limits.a]\nrate = '5/s'\n[[limits.a.overrides]]\nkey = '::1'\nmode = 'off'\n{lines}"
                )
            }
            "[[routes]]" => format!("{listener}{respond}{lines}"),
            "routes.respond" => {
                format!("{listener}[[routes]]\nname = 'r'\n[routes.respond]\n{lines}")
            }
            "routes.redirect" => {
                format!("{listener}[[routes]]\nname = 'r'\n[routes.redirect]\nto = '/'\n{lines}")
            }
            "error_bodies.NAME.bodies" => {
                format!("{listener}[error_bodies.NAME]\n[[{header}]]\n{lines}")
            }
            "routes.split" => format!(
                "{listener}{upstream}[[routes]]\nname = 'r'\n[[routes.split]]\nupstream = 'NAME'\n{lines}"
            ),
            "routes.rewrite" => format!(
                "{listener}{upstream}[[routes]]\nname = 'r'\nupstream = 'NAME'\n[routes.rewrite]\n{lines}"
            ),
            "routes.request_headers, routes.response_headers" => format!(
                "{listener}{upstream}[[routes]]\nname = 'r'\nupstream = 'NAME'\n[routes.request_headers]\n{lines}"
            ),
            _ => format!("{listener}{header}\n{lines}"),
        }
    }

    /// The word with two letters swapped, and with its last twice; what is behind a colon is the user's.
    fn mistyped(word: &str) -> [String; 2] {
        if let Some((word, rest)) = word.split_once(':') {
            return mistyped(word).map(|typo| format!("{typo}:{rest}"));
        }
        let mut swapped: Vec<char> = word.chars().collect();
        let middle = swapped.len() / 2;
        swapped.swap(middle - 1, middle);
        let last = swapped[swapped.len() - 1];
        [swapped.into_iter().collect(), format!("{word}{last}")]
    }

    /// The line in which `text` first stands, from 1.
    fn line_of(text: &str, line: &str) -> usize {
        let at = text.lines().position(|each| each == line);
        at.unwrap() + 1
    }

    /// What is wrong or doubtful, as `line message`.
    fn told(text: &str) -> Vec<String> {
        let source = ConfigSource::Text { name: "x", text };
        let problems = match load(source, &|_| None) {
            Ok(config) => config.warnings.problems,
            Err(errors) => errors.problems,
        };
        let told = problems.into_iter().map(|problem| {
            let line = problem.position.map_or(0, |position| position.line);
            format!("{line} {}", problem.message)
        });
        told.collect()
    }

    #[test]
    fn every_mistyped_key_is_told_with_its_line_and_the_nearest() {
        let mut tried = 0;
        for keys in SECTIONS {
            let names: Vec<_> = keys.rows.iter().map(|row| row.name()).collect();
            for name in &names {
                for typo in mistyped(name) {
                    // Some keys differ in no more than that, or are read by no section in which nothing else is.
                    if names.contains(&&*typo) || typo == *name {
                        continue;
                    }
                    let line = format!("{typo} = 1");
                    let text = with_section(keys.header, &format!("{line}\n"));
                    let begin = format!("{} ", line_of(&text, &line));
                    let end = format!("; did you mean `{name}`?");
                    let told = told(&text);
                    let is_told = |each: &String| each.starts_with(&begin) && each.ends_with(&end);
                    assert!(
                        told.iter().any(is_told),
                        "{typo} for {name}: {told:?}\n{text}"
                    );
                    tried += 1;
                }
            }
        }
        assert!(tried > 400, "{tried} keys");
    }

    /// The words of a key that takes nothing else, or these beside other values.
    fn words_of(expects: &str) -> Vec<&str> {
        // Odd pieces are in quotes; what is there as an example stands after `such as`.
        let (expects, _) = expects.split_once("such as").unwrap_or((expects, ""));
        let quoted = expects.split('"').skip(1).step_by(2);
        let is_word = |word: &&str| {
            let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
            letters > 2 && !word.bytes().any(|byte| byte.is_ascii_digit())
        };
        quoted.filter(is_word).collect()
    }

    #[test]
    fn every_mistyped_word_is_told_with_its_line_and_the_nearest() {
        let mut tried = 0;
        for keys in SECTIONS {
            for row in keys.rows {
                let expects = row.expects();
                for word in words_of(&expects) {
                    for typo in mistyped(word).into_iter().filter(|typo| typo != word) {
                        // One or the other is of the wrong type.
                        let forms = [format!("\"{typo}\""), format!("[\"{typo}\"]")];
                        let found = forms.map(|form| {
                            let line = format!("{} = {form}", row.name());
                            let text = with_section(keys.header, &format!("{line}\n"));
                            let begin = format!("{} ", line_of(&text, &line));
                            let end = format!("did you mean `{word}`?");
                            let told = told(&text);
                            let is_told =
                                |each: &String| each.starts_with(&begin) && each.ends_with(&end);
                            (told.iter().any(is_told), told)
                        });
                        let name = row.name();
                        // Where the section has to have one already.
                        let is_there = |each: &String| each.contains("there twice");
                        if found.iter().all(|(_, told)| told.iter().any(is_there)) {
                            continue;
                        }
                        let is_told = found.iter().any(|(is_told, _)| *is_told);
                        assert!(is_told, "{name} = {typo} for {word}: {found:?}");
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 100, "{tried} words");
    }

    #[test]
    fn every_default_reads_as_the_page_shows_it() {
        let mut defaults = 0;
        for keys in SECTIONS {
            for row in keys.rows {
                let default = row.default();
                // An empty array of hosts is refused when written: it would say nothing. So are those that open a route.
                let refused = ["algorithms", "origins"].contains(&row.name())
                    || keys.header == "[filters.NAME]"
                    || keys.header == "[[listeners]]" && row.name() == "hosts"
                    || keys.header == "[[routes]]"
                        && ["hosts", "auth", "auth_optional", "groups"].contains(&row.name());
                let Some(value) = default.strip_prefix('`').filter(|_| !refused) else {
                    continue;
                };
                let line = format!("{} = {}\n", row.name(), value.trim_end_matches('`'));
                let text = with_section(keys.header, &line);
                let source = ConfigSource::Text {
                    name: row.name(),
                    text: &text,
                };
                let errors = load(source, &|_| None).err();
                assert!(errors.is_none(), "{}\n{text}", errors.unwrap());
                defaults += 1;
            }
        }
        assert!(defaults > 40, "{defaults} defaults");
    }
}
