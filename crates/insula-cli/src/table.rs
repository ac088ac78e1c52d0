//! Tables: the facts about a kind of resource, as named columns.

use comfy_table::{Table, presets};

use crate::text;

/// One fact about a `T`.
pub struct Column<T> {
    /// Its name, as typed and in CSV; in capitals as the head of a table.
    pub name: &'static str,
    /// When a list shows it.
    pub shown: Shown,
    /// The value; empty if there is none.
    pub value: fn(&T) -> String,
}

/// When a list shows a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Always.
    Usually,
    /// If it has a value for at least one item.
    WhereItSays,
    /// Only if `--columns` names it.
    WhenAsked,
}

/// Which columns a list shows.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ColumnChoice {
    /// Columns to show, separated by commas; an unknown name prints all that there are
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    columns: Vec<String>,
}

impl ColumnChoice {
    /// Whether `--columns` was not given.
    pub fn is_usual(&self) -> bool {
        self.columns.is_empty()
    }

    /// The columns of `--columns`, or else the usual ones for these items. The error lists all columns.
    pub fn of<'a, T>(&self, all: &'a [Column<T>], items: &[T]) -> Result<Vec<&'a Column<T>>, String> {
        let says = |column: &&Column<T>| match column.shown {
            Shown::Usually => true,
            Shown::WhereItSays => items.iter().any(|item| !(column.value)(item).is_empty()),
            Shown::WhenAsked => false,
        };
        if self.columns.is_empty() {
            return Ok(all.iter().filter(says).collect());
        }
        let find = |name: &String| {
            let known = || all.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
            let found = all.iter().find(|column| column.name.eq_ignore_ascii_case(name.trim()));
            found.ok_or_else(|| {
                format!("invalid value {name:?} for '--columns': expected some of {}", known())
            })
        };
        self.columns.iter().map(find).collect()
    }
}

/// A row for each item, below a head.
pub fn render_table<T>(columns: &[&Column<T>], items: &[T]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| column.name.to_uppercase()));
    for item in items {
        table.add_row(columns.iter().map(|column| cell(column, item)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn cell<T>(column: &Column<T>, item: &T) -> String {
    match (column.value)(item) {
        value if value.is_empty() => "-".to_owned(),
        value => in_one_line(&value),
    }
}

fn in_one_line(value: &str) -> String {
    text::printable_lines(value).join(" ")
}

/// A row for each item, below a head, as RFC 4180 says.
pub fn render_csv<T>(columns: &[&Column<T>], items: &[T]) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(vec![]);
    writer.write_record(columns.iter().map(|column| column.name))?;
    for item in items {
        writer.write_record(columns.iter().map(|column| in_one_line(&(column.value)(item))))?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// All facts about one item, a line for each column that has a value.
pub fn render_item<T>(columns: &[Column<T>], item: &T) -> String {
    render_facts(&facts(columns, item))
}

/// The facts about an item: names and values.
pub fn facts<T>(columns: &[Column<T>], item: &T) -> Vec<(&'static str, String)> {
    columns.iter().map(|column| (column.name, (column.value)(item))).collect()
}

/// A line for each fact that has a value.
pub fn render_facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let mut rendered = String::new();
    for (name, value) in facts {
        let mut head = format!("{name}:");
        for line in text::printable_lines(value) {
            rendered += format!("{head:width$}{line}").trim_end();
            rendered += "\n";
            head.clear();
        }
    }
    rendered
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column<(&str, &str)>] = &[
        Column { name: "name", shown: Shown::Usually, value: |item| item.0.to_owned() },
        Column { name: "note", shown: Shown::Usually, value: |item| item.1.to_owned() },
        Column { name: "length", shown: Shown::WhenAsked, value: |item| item.1.len().to_string() },
    ];
    const ITEMS: &[(&str, &str)] =
        &[("web1", "日本, \"x\""), ("a-longer-name", ""), ("evil", "\x1b[2J\nowned")];

    fn choose(columns: &[&str]) -> Result<Vec<&'static Column<(&'static str, &'static str)>>, String> {
        ColumnChoice { columns: columns.iter().map(ToString::to_string).collect() }.of(COLUMNS, ITEMS)
    }

    #[test]
    fn a_column_that_says_nothing_is_left_out() {
        let columns = &[Column { name: "note", shown: Shown::WhereItSays, value: COLUMNS[1].value }];
        let count = |items| ColumnChoice::default().of(columns, items).unwrap().len();
        assert_eq!((count(ITEMS), count(&ITEMS[1..2]), count(&[])), (1, 0, 0));
    }

    #[test]
    fn columns_line_up() {
        insta::assert_snapshot!(render_table(&choose(&[]).unwrap(), ITEMS), @r#"
        NAME            NOTE
        web1            日本, "x"
        a-longer-name   -
        evil            �[2J owned
        "#);
    }

    #[test]
    fn csv_is_quoted_where_needed() {
        insta::assert_snapshot!(render_csv(&choose(&["LENGTH", " note"]).unwrap(), ITEMS).unwrap(), @r#"
        length,note
        11,"日本, ""x"""
        0,
        10,�[2J owned
        "#);
    }

    #[test]
    fn one_item_is_shown_line_by_line() {
        insta::assert_snapshot!(render_item(COLUMNS, &ITEMS[2]), @r"
        name:   evil
        note:   �[2J
                owned
        length: 10
        ");
    }

    #[test]
    fn an_unknown_column_is_named() {
        let error = choose(&["name", "nmae"]).err().unwrap();
        assert_eq!(error, "invalid value \"nmae\" for '--columns': expected some of name, note, length");
    }
}
