//! A strict reader of the Prometheus text format 0.0.4: fails on whatever promtool would complain about.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::collections::{BTreeMap, BTreeSet};

/// Samples by `name{label="value",…}`, labels in the order of the page.
pub(crate) struct Exposition {
    samples: BTreeMap<String, f64>,
    pub(crate) families: BTreeMap<String, String>,
}

impl Exposition {
    pub(crate) fn parse(page: &str) -> Self {
        let mut this = Self {
            samples: BTreeMap::new(),
            families: BTreeMap::new(),
        };
        let mut family = String::new();
        let mut helped = BTreeSet::new();
        assert!(page.ends_with('\n'));
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap();
                assert!(
                    !text.is_empty() && helped.insert(name.to_owned()),
                    "HELP twice: {name}"
                );
                family = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, family, "TYPE follows its HELP");
                assert!(["counter", "gauge", "histogram"].contains(&kind));
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                this.families.insert(name.to_owned(), kind.to_owned());
            } else {
                this.sample(line, &family);
            }
        }
        this.check_histograms();
        this
    }

    /// The value of exactly this sample.
    pub(crate) fn value(&self, sample: &str) -> f64 {
        *self
            .samples
            .get(sample)
            .unwrap_or_else(|| panic!("no sample {sample}"))
    }

    /// All samples whose text starts so.
    pub(crate) fn starting<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let all = self
            .samples
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix));
        all.map(|(name, value)| (name.as_str(), *value))
    }

    fn sample(&mut self, line: &str, family: &str) {
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let name = sample.split('{').next().unwrap();
        let kind = &self.families[family];
        let suffix = name
            .strip_prefix(family)
            .unwrap_or_else(|| panic!("{name} under {family}"));
        match kind.as_str() {
            "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{name}"),
            _ => assert_eq!(suffix, ""),
        }
        if let Some(labels) = sample
            .strip_prefix(name)
            .filter(|labels| !labels.is_empty())
        {
            check_labels(labels);
        }
        let value = value.parse::<f64>().unwrap();
        assert!(value >= 0.0, "{line}");
        assert!(
            self.samples.insert(sample.to_owned(), value).is_none(),
            "twice: {sample}"
        );
    }

    fn check_histograms(&self) {
        for (sample, count) in self
            .samples
            .iter()
            .filter(|(sample, _)| sample.contains("_count"))
        {
            let Some((family, labels)) = sample.split_once("_count") else {
                continue;
            };
            if self.families.get(family).map(String::as_str) != Some("histogram") {
                continue;
            }
            let labels = labels.trim_end_matches('}');
            let prefix = format!(
                "{family}_bucket{labels}{}le=\"",
                if labels.is_empty() { "{" } else { "," }
            );
            let mut buckets: Vec<(f64, f64)> = self
                .starting(&prefix)
                .map(|(name, value)| {
                    let bound = name
                        .strip_prefix(&prefix)
                        .unwrap()
                        .strip_suffix("\"}")
                        .unwrap();
                    (bound.replace("+Inf", "inf").parse().unwrap(), value)
                })
                .collect();
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(
                buckets.is_sorted_by_key(|bucket| bucket.1),
                "{sample}: not cumulative"
            );
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{sample}");
            assert!(self.samples.contains_key(&sample.replace("_count", "_sum")));
        }
    }
}

/// `{name="value",…}` with `\\`, `\"` and `\n` as the only escapes.
fn check_labels(labels: &str) {
    let mut rest = labels.strip_prefix('{').unwrap();
    let mut seen = BTreeSet::new();
    loop {
        let (name, tail) = rest.split_once("=\"").unwrap();
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{name}"
        );
        assert!(!name.is_empty() && seen.insert(name), "{labels}");
        let mut end = None;
        let mut escaped = false;
        for (at, c) in tail.char_indices() {
            match c {
                c if escaped => {
                    assert!(['\\', '"', 'n'].contains(&c), "{labels}");
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let (_, tail) = tail.split_at(end.unwrap());
        match tail {
            "\"}" => return,
            _ => rest = tail.strip_prefix("\",").unwrap(),
        }
    }
}
