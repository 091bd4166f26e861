//! Line charts as SVG, without a library: axes, grid, lines, legend. Colours come from the page's style sheet, so that
//! a chart is readable on a light and on a dark page.

use std::fmt::{self, Write};

/// A chart.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) x: Axis<'a>,
    pub(super) y: Axis<'a>,
    pub(super) lines: Vec<Line<'a>>,
}

/// One axis; the range is that of the data.
pub(super) struct Axis<'a> {
    pub(super) label: &'a str,
    pub(super) scale: Scale,
    /// How a value is written at a tick.
    pub(super) format: fn(f64) -> String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From 0.
    Linear,
    /// In decades; values must be above 0, others are left out.
    Decades,
}

/// One line; the first of a chart has the first colour, and so on.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 44.0;

/// Maps values to places on the page.
struct Range {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Range {
    fn of(scale: Scale, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in
            values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0))
        {
            low = low.min(value);
            high = high.max(value);
        }
        let (low, high) = match scale {
            Scale::Linear => (0.0, if high > 0.0 { nice_above(high) } else { 1.0 }),
            Scale::Decades if low > high => (1.0, 10.0),
            Scale::Decades => {
                let low = 10_f64.powf(low.log10().floor());
                (low, 10_f64.powf(high.log10().ceil()).max(low * 10.0))
            }
        };
        Self {
            scale,
            low,
            high,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> Option<f64> {
        if !value.is_finite() {
            return None;
        }
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Decades if value <= 0.0 => return None,
            Scale::Decades => (value / self.low).log10() / (self.high / self.low).log10(),
        };
        Some(self.from + share * (self.to - self.from))
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => (0..=4)
                .map(|step| self.high * f64::from(step) / 4.0)
                .collect(),
            Scale::Decades => {
                let mut ticks = vec![self.low];
                while let Some(&last) = ticks.last()
                    && last * 9.99 < self.high
                {
                    ticks.push(last * 10.0);
                }
                ticks
            }
        }
    }
}

/// The next of 1, 2, 4, 6, 8 and 10 times a power of ten: each divides by four into round numbers, or nearly.
fn nice_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
    steps
        .into_iter()
        .map(|step| step * power)
        .find(|&nice| nice >= value * 0.999_999)
        .unwrap_or(value)
}

impl fmt::Display for Chart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let x = Range::of(
            self.x.scale,
            points().map(|point| point.0),
            LEFT,
            WIDTH - RIGHT,
        );
        let y = Range::of(
            self.y.scale,
            points().map(|point| point.1),
            HEIGHT - BOTTOM,
            TOP,
        );
        write!(
            f,
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#,
            self.title
        )?;
        write!(
            f,
            r#"<text class="title" x="{LEFT}" y="16">{}</text>"#,
            self.title
        )?;
        self.write_axes(f, &x, &y)?;
        let mut legend_x = LEFT;
        for (index, line) in self.lines.iter().enumerate() {
            let class = index + 1;
            let mut path = String::new();
            for &(at, value) in &line.points {
                if let (Some(at), Some(value)) = (x.place(at), y.place(value)) {
                    let command = if path.is_empty() { 'M' } else { 'L' };
                    write!(path, "{command}{at:.1} {value:.1}")?;
                }
            }
            write!(f, r#"<path class="line s{class}" d="{path}"/>"#)?;
            let end = legend_x + 22.0;
            write!(
                f,
                r#"<path class="line s{class}" d="M{legend_x} 30L{end} 30"/>"#
            )?;
            write!(f, r#"<text x="{}" y="34">{}</text>"#, end + 6.0, line.name)?;
            legend_x = end + 24.0 + 6.5 * line.name.len() as f64;
        }
        f.write_str("</svg>")
    }
}

impl Chart<'_> {
    fn write_axes(&self, f: &mut fmt::Formatter<'_>, x: &Range, y: &Range) -> fmt::Result {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in y.ticks() {
            let Some(place) = y.place(tick) else { continue };
            write!(
                f,
                r#"<path class="grid" d="M{LEFT} {place:.1}L{right} {place:.1}"/>"#
            )?;
            let text = (self.y.format)(tick);
            write!(
                f,
                r#"<text class="end" x="{}" y="{:.1}">{text}</text>"#,
                LEFT - 6.0,
                place + 4.0
            )?;
        }
        for tick in x.ticks() {
            let Some(place) = x.place(tick) else { continue };
            write!(
                f,
                r#"<path class="grid" d="M{place:.1} {TOP}L{place:.1} {bottom}"/>"#
            )?;
            let text = (self.x.format)(tick);
            write!(
                f,
                r#"<text class="middle" x="{place:.1}" y="{}">{text}</text>"#,
                bottom + 16.0
            )?;
        }
        let middle = (LEFT + right) / 2.0;
        write!(
            f,
            r#"<text class="middle" x="{middle}" y="{}">{}</text>"#,
            HEIGHT - 8.0,
            self.x.label
        )?;
        write!(
            f,
            r#"<text class="end" x="{right}" y="16">{}</text>"#,
            self.y.label
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, scale: Scale) -> String {
        let axis = |label| Axis {
            label,
            scale,
            format: |value| format!("{value}"),
        };
        let lines = vec![Line {
            name: "line",
            points,
        }];
        Chart {
            title: "title",
            x: axis("x"),
            y: axis("y"),
            lines,
        }
        .to_string()
    }

    #[test]
    fn the_highest_point_is_at_the_top_and_the_last_at_the_right() {
        let svg = chart(vec![(0.0, 0.0), (4.0, 8.0)], Scale::Linear);
        assert!(svg.contains("M64.0 256.0L724.0 44.0"), "{svg}");
        let svg = chart(vec![(1.0, 10.0), (100.0, 1000.0)], Scale::Decades);
        assert!(svg.contains("M64.0 256.0L724.0 44.0"), "{svg}");
    }

    #[test]
    fn no_points_and_no_positive_points_make_an_empty_chart() {
        for points in [vec![], vec![(0.0, 0.0)], vec![(f64::NAN, f64::INFINITY)]] {
            for scale in [Scale::Linear, Scale::Decades] {
                let svg = chart(points.clone(), scale);
                assert!(svg.ends_with("</svg>") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn linear_axes_end_at_round_numbers() {
        for (value, nice) in [
            (1.0, 1.0),
            (1.1, 2.0),
            (3.0, 4.0),
            (750.0, 800.0),
            (9_001.0, 10_000.0),
        ] {
            assert_eq!(nice_above(value), nice);
        }
    }
}
