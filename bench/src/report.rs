//! One table of results: printed as Markdown, and written as JSON and as a plot.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use plotters::element::Circle;
use plotters::prelude::{
    ChartBuilder, IntoDrawingArea, IntoLogRange, LineSeries, Palette, Palette99, SVGBackend, WHITE,
};
use plotters::style::Color;
use serde_json::{Value, json};

/// A table whose rows are designs and whose columns are measurements.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was measured, in one line.
    pub title: String,
    /// Heads of the columns, units included.
    pub columns: Vec<String>,
    /// Name of a row and its cells, one for each column; `None` where nothing was measured.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
    /// Sentences below the table.
    pub notes: Vec<String>,
}

impl Report {
    /// The table in Markdown, its columns aligned for reading as text.
    #[must_use]
    pub fn markdown(&self) -> String {
        let name_width = self
            .rows
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0)
            .max("design".len());
        let mut text = format!("{}\n\n| {:name_width$} |", self.title, "design");
        for column in &self.columns {
            let _infallible = write!(text, " {column} |");
        }
        text.push_str(&format!("\n|{:-<1$}|", "", name_width + 2));
        for column in &self.columns {
            let _infallible = write!(text, "{:->1$}:|", "", column.len() + 1);
        }
        for (name, cells) in &self.rows {
            let _infallible = write!(text, "\n| {name:name_width$} |");
            for (cell, column) in cells.iter().zip(&self.columns) {
                let _infallible = write!(text, " {:>1$} |", number(*cell), column.len());
            }
        }
        for note in &self.notes {
            let _infallible = write!(text, "\n\n{note}");
        }
        text.push('\n');
        text
    }

    /// The table as JSON: `{title, columns, rows: [{name, cells}], notes}`.
    #[must_use]
    pub fn json(&self) -> Value {
        let row =
            |(name, cells): &(String, Vec<Option<f64>>)| json!({"name": name, "cells": cells});
        json!({
            "title": self.title,
            "columns": self.columns,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    /// Writes `NAME.md` and `NAME.json` into a directory, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn save(&self, dir: &Path, name: &str) -> Result<(), Box<dyn Error>> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join(name).with_extension("md"), self.markdown())?;
        let json = serde_json::to_string_pretty(&self.json())?;
        fs::write(dir.join(name).with_extension("json"), json + "\n")?;
        Ok(())
    }

    /// Draws some columns as lines, one for each row, on axes by powers of ten.
    ///
    /// `points` gives the number on the x axis and the column for each point.
    ///
    /// # Errors
    ///
    /// What the file system or the drawing says.
    pub fn plot(
        &self,
        file: &Path,
        caption: &str,
        points: &[(f64, usize)],
    ) -> Result<(), Box<dyn Error>> {
        let series: Vec<(&str, Vec<(f64, f64)>)> = self
            .rows
            .iter()
            .map(|(name, cells)| {
                let point = |&(x, column): &(f64, usize)| Some((x, (*cells.get(column)?)?));
                (name.as_str(), points.iter().filter_map(point).collect())
            })
            .collect();
        let all = || series.iter().flat_map(|(_, line)| line.iter());
        let top = all().map(|point| point.1).fold(10.0, f64::max);
        let bottom = all().map(|point| point.1).fold(top, f64::min);
        let right = all().map(|point| point.0).fold(10.0, f64::max);

        let area = SVGBackend::new(file, (1000, 600)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(caption, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(
                (1.0..right * 1.2).log_scale(),
                (bottom * 0.8..top * 1.2).log_scale(),
            )?;
        chart
            .configure_mesh()
            .x_desc("keys")
            .y_desc("ns per decision")
            .draw()?;
        for (index, (name, line)) in series
            .iter()
            .filter(|(_, line)| !line.is_empty())
            .enumerate()
        {
            let color = Palette99::pick(index).to_rgba();
            chart
                .draw_series(LineSeries::new(line.iter().copied(), color.stroke_width(2)))?
                .label(*name)
                .legend(move |(x, y)| Circle::new((x + 8, y), 4, color.filled()));
            let dots = line.iter().map(|&at| Circle::new(at, 3, color.filled()));
            chart.draw_series(dots)?;
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(plotters::style::BLACK.mix(0.3))
            .position(plotters::chart::SeriesLabelPosition::UpperLeft)
            .draw()?;
        area.present()?;
        Ok(())
    }
}

/// A cell with three digits that count.
fn number(cell: Option<f64>) -> String {
    match cell {
        None => "-".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_cell_for_every_column_and_a_dash_where_nothing_was_measured() {
        let report = Report {
            title: "t".into(),
            columns: vec!["ns".into(), "bytes".into()],
            rows: vec![
                ("a".into(), vec![Some(12.34), None]),
                ("bb".into(), vec![Some(1.0), Some(250.4)]),
            ],
            notes: vec!["n".into()],
        };
        let text = report.markdown();
        assert!(text.contains("| a      | 12.3 |     - |"), "{text}");
        assert!(text.contains("| bb     | 1.000 |   250 |"), "{text}");
        assert_eq!(report.json()["rows"][0]["cells"][1], Value::Null);
    }
}
