//! The page of `/metrics`, as numbers.

/// One scrape.
#[derive(Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    pub(crate) fn new(page: &str) -> Self {
        Self(page.to_owned())
    }

    /// The sum of the series of `name` that have all these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let series = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (its_labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let its_labels = format!(",{its_labels},");
            let has =
                |(key, value): &(&str, &str)| its_labels.contains(&format!(",{key}=\"{value}\","));
            labels.iter().all(has).then(|| value.parse().unwrap())
        });
        // The empty sum of floats is -0.
        series.fold(0.0, |sum: f64, value: f64| sum + value)
    }
}
