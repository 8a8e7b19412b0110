//! Pods as a table, laid out as kubectl does.

use kube_model::view::PodView;
use kube_model::{Timestamp, age, pod, summary};

use crate::{select, text};

const COLUMNS: &[&str] = &["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"];
const WIDE_COLUMNS: &[&str] = &["NODE", "UID", "IMAGES"];

/// The cells of one pod.
pub type Row = Vec<String>;

/// A table that can grow: later rows line up with earlier ones, and columns only get wider.
#[derive(Debug)]
pub struct Table {
    wide: bool,
    widths: Vec<usize>,
}

impl Table {
    /// An empty table; a `wide` one also has the columns NODE, UID and IMAGES.
    pub fn new(wide: bool) -> Self {
        Self { wide, widths: Vec::new() }
    }

    /// The cells of `pod` as they are at `now`.
    pub fn row(&self, pod: &PodView, now: Timestamp) -> Row {
        let digest = summary::digest(&pod.pod, &pod.status, pod.removing);
        let mut row = vec![
            select::namespace(pod).to_owned(),
            select::name(pod).to_owned(),
            format!("{}/{}", digest.ready, digest.total),
            text::one_line(&digest.status),
            digest.restarts_text(now),
            summary::born(&pod.pod, &pod.status).map_or("<unknown>".to_owned(), |born| age::since(born, now)),
            or_none(pod.status.pod_ip.clone()),
        ];
        if self.wide {
            let spec = pod.pod.spec.as_ref();
            let images: Vec<_> = spec
                .map(|spec| pod::containers(spec).filter_map(|(_, c)| c.image.as_deref()).collect())
                .unwrap_or_default();
            row.push(or_none(spec.and_then(|spec| spec.node_name.clone())));
            row.push(or_none(pod.pod.metadata.uid.clone()));
            row.push(or_none(Some(images.join(","))));
        }
        row
    }

    /// The text of `rows`, with the header above the first ones ever.
    pub fn render(&mut self, rows: &[Row]) -> String {
        let mut lines: Vec<Vec<&str>> =
            rows.iter().map(|row| row.iter().map(String::as_str).collect()).collect();
        if self.widths.is_empty() && !rows.is_empty() {
            let wide = if self.wide { WIDE_COLUMNS } else { &[] };
            lines.insert(0, [COLUMNS, wide].concat());
            self.widths = vec![0; COLUMNS.len() + wide.len()];
        }
        align(&lines, &mut self.widths)
    }
}

/// Lines of cells under each other; columns that are too narrow get wider. The last one is as wide as it is.
pub(crate) fn align(lines: &[Vec<&str>], widths: &mut [usize]) -> String {
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for line in lines {
        for (index, (cell, &width)) in line.iter().zip(&*widths).enumerate() {
            if index + 1 == widths.len() {
                out.push_str(cell);
            } else {
                out.push_str(&format!("{cell:width$}   "));
            }
        }
        out.push('\n');
    }
    out
}

fn or_none(cell: Option<String>) -> String {
    cell.filter(|cell| !cell.is_empty()).map_or("<none>".to_owned(), |cell| text::one_line(&cell))
}

#[cfg(test)]
mod tests;
