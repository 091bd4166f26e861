//! The reference of every key, made from the same rows that the reader goes by.

use std::fmt::Write as _;

use super::key::{Keys, Row};
use super::{limits, listeners, load, respond, routes, runtime, telemetry, upstreams};

/// The sections in the order of the page.
static SECTIONS: [&Keys; 12] = [
    &load::KEYS,
    &runtime::KEYS,
    &telemetry::ADMIN_KEYS,
    &telemetry::LOG_KEYS,
    &telemetry::ACCESS_KEYS,
    &telemetry::CLIENT_IP_KEYS,
    &listeners::KEYS,
    &upstreams::KEYS,
    &upstreams::ENDPOINT_KEYS,
    &limits::KEYS,
    &routes::KEYS,
    &respond::KEYS,
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
