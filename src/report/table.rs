//! Tables that fit a terminal: names are shortened first, then the columns that say least are left out.

use super::shortened;

/// Characters between two columns.
const GAP: usize = 2;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// What stands above it.
    pub head: &'static str,
    /// Figures stand on the right.
    pub is_right: bool,
    /// The fewest characters that its cells may be shortened to; none where they are never shortened.
    pub least: Option<usize>,
    /// Where even shortened cells do not fit, the column with the highest number is left out; 0 never is.
    pub rank: u8,
}

impl Column {
    /// A column of words, never shortened and never left out.
    pub const fn left(head: &'static str) -> Self {
        Column { head, is_right: false, least: None, rank: 0 }
    }

    /// The same of figures.
    pub const fn right(head: &'static str) -> Self {
        Column { is_right: true, ..Column::left(head) }
    }

    /// The same, whose cells may be shortened to `least` characters.
    pub const fn shrinks(self, least: usize) -> Self {
        Column { least: Some(least), ..self }
    }

    /// The same, left out before those with a lower rank.
    pub const fn left_out(self, rank: u8) -> Self {
        Column { rank, ..self }
    }
}

/// A row, and what is said of it besides.
#[derive(Debug, Clone)]
pub struct Row {
    /// A cell for each column.
    pub cells: Vec<String>,
    /// Stands behind the row, or below it where the line is not wide enough.
    pub remarks: String,
}

/// The lines of a table, its heads first, in `width` characters; as wide as it likes, where there is no width.
pub fn table(columns: &[Column], rows: &[Row], width: Option<usize>) -> Vec<String> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let natural = |column: usize| {
        let cells = rows.iter().map(|row| length(&row.cells[column]));
        cells.max().unwrap_or(0).max(columns[column].head.len())
    };
    let mut widths: Vec<usize> = shown.iter().map(|&column| natural(column)).collect();
    if let Some(width) = width {
        let least = |column: usize| columns[column].least.map_or(widths[column], |l| l.min(widths[column]));
        let total = |shown: &[usize]| shown.iter().map(|&column| least(column) + GAP).sum::<usize>();
        while total(&shown) > width + GAP {
            let Some(&last) = shown.iter().max_by_key(|&&column| columns[column].rank) else { break };
            if columns[last].rank == 0 {
                break;
            }
            shown.retain(|&column| column != last);
        }
        let mut excess = shown.iter().map(|&c| widths[c] + GAP).sum::<usize>().saturating_sub(width + GAP);
        // The widest first: what tells names apart is rarely in the longest of them.
        let least: Vec<usize> = (0..columns.len()).map(least).collect();
        while let Some(&column) = shown.iter().filter(|&&c| widths[c] > least[c]).max_by_key(|&&c| widths[c])
            && excess > 0
        {
            widths[column] -= 1;
            excess -= 1;
        }
    }
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells = shown.iter().map(|&column| {
            let (cell, width) = (shortened(&cell(column), widths[column]), widths[column]);
            if columns[column].is_right { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_string()
    };
    let mut lines = vec![line(&|column| columns[column].head.into())];
    for row in rows {
        let text = line(&|column| row.cells[column].clone());
        let whole = format!("{text}  {}", row.remarks);
        if row.remarks.is_empty() {
            lines.push(text);
        } else if width.is_none_or(|width| length(&whole) <= width) {
            lines.push(whole);
        } else {
            lines.push(text);
            lines.extend(wrapped(&row.remarks, width.unwrap_or(usize::MAX), "    "));
        }
    }
    lines
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// A text in lines of `width` characters, each begun with `indent`; a longer word has a line of its own.
pub fn wrapped(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if length(line) + 1 + length(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] =
        [Column::left("NAME").shrinks(5), Column::right("SIZE"), Column::left("HOST").left_out(1)];

    fn row(name: &str, size: &str, remarks: &str) -> Row {
        Row { cells: [name, size, "web1"].map(String::from).into(), remarks: remarks.into() }
    }

    #[test]
    fn without_a_width_nothing_is_shortened() {
        let rows = [row("a", "1", ""), row("a-very-long-name", "1000", "2 warnings")];
        let lines = table(&COLUMNS, &rows, None);
        assert_eq!(
            lines,
            [
                "NAME              SIZE  HOST",
                "a                    1  web1",
                "a-very-long-name  1000  web1  2 warnings",
            ]
        );
    }

    #[test]
    fn names_are_shortened_then_columns_left_out() {
        let rows = [row("a-very-long-name", "1000", "")];
        assert_eq!(table(&COLUMNS, &rows, Some(20))[1], "a-ve…ame  1000  web1");
        assert_eq!(table(&COLUMNS, &rows, Some(12))[1], "a-v…me  1000");
    }

    #[test]
    fn what_is_said_besides_stands_below_where_there_is_no_room_and_no_line_is_too_wide() {
        let rows = [row("a-very-long-name", "1000", "2 warnings, needs an archive that is gone")];
        for width in 14..90 {
            let lines = table(&COLUMNS, &rows, Some(width));
            assert!(lines.iter().all(|line| length(line) <= width), "{width}: {lines:#?}");
            let words: Vec<_> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
            assert!(words.join(" ").ends_with(&rows[0].remarks), "{lines:#?}");
        }
    }
}
