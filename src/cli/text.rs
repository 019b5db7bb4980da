//! Text of other people on a terminal and in a spreadsheet.
//!
//! Names of devices and people come from outside. On a terminal a control or bidirectional character could repaint what
//! stands beside it, so it is shown as its number; in a spreadsheet a cell that begins like a formula would be computed, so it
//! gets a leading apostrophe.

use std::borrow::Cow;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

/// The width of a table where the terminal's is not known.
const WIDTH: u16 = 120;

/// `text` with every control and bidirectional character spelled out.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unruly) {
        return Cow::Borrowed(text);
    }
    let spell = |c: char| if is_unruly(c) { c.escape_unicode().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(spell).collect())
}

fn is_unruly(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `text` as a cell that no spreadsheet computes.
pub(crate) fn cell(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Rows as comma-separated values with a header.
pub(crate) fn csv(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header)?;
    for row in rows {
        writer.write_record(row.iter().map(|text| cell(text).into_owned()))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// Rows as a table for a terminal.
#[cfg(feature = "sandbox")]
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    table_with(header, &[], rows)
}

/// Rows as a table for a terminal. The columns in `whole` are never broken over lines: times and ids are to be copied.
pub(crate) fn table_with(header: &[&str], whole: &[usize], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width());
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|text| plain(text).into_owned()).collect::<Vec<_>>());
    }
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if whole.contains(&place) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The width to print in: `COLUMNS` where it is sensible.
fn width() -> u16 {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    columns.filter(|columns| (80..=200).contains(columns)).unwrap_or(WIDTH)
}

/// A text of ours beside names and values, one a line, the values in one column.
pub(crate) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut text = String::new();
    for (name, value) in facts {
        text.push_str(&format!("  {name:<15} {}\n", plain(&value)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_repaint_a_terminal_is_spelled_out() {
        assert_eq!(plain("iPad\u{202e}7\u{1b}[2J\n"), "iPad\\u{202e}7\\u{1b}[2J\\u{a}");
        assert_eq!(plain("Ärztin 3B – 王"), "Ärztin 3B – 王");
    }

    #[test]
    fn no_cell_is_a_formula() {
        for text in ["=1+1", "+49", "-2", "@SUM(A1)", "\tx", "\rx"] {
            assert_eq!(cell(text), format!("'{text}"));
        }
        assert_eq!(cell("iPad = 7"), "iPad = 7");
    }

    #[test]
    fn a_csv_keeps_commas_and_quotes_in_their_cells() {
        let text = csv(&["a", "b"], [vec!["x,y".to_owned(), "=cmd|\"z\"".to_owned()]]).unwrap();

        assert_eq!(text, "a,b\n\"x,y\",\"'=cmd|\"\"z\"\"\"\n");
    }
}
