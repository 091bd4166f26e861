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
