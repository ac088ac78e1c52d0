//! The answer, in the requested format.

use insula_api::json::to_json;
use prost::Name;
use std::io::{ErrorKind, Write as _};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::global::Format;
use crate::table::{Column, ColumnChoice, render_csv, render_item, render_table};
use crate::text;

impl Context {
    /// Prints a list: `message` is what holds the `items` in the API, `empty` what to say when there are none.
    pub fn print_list<T>(
        &self,
        message: &impl Name,
        items: &[T],
        columns: &[Column<T>],
        choice: &ColumnChoice,
        empty: &str,
    ) -> Outcome {
        self.print_rows(|| to_json(message), items, columns, choice, empty)
    }

    /// Prints a list that is not a message of the API; `value` is what it is as JSON.
    pub fn print_rows<T>(
        &self,
        value: impl FnOnce() -> serde_json::Value,
        items: &[T],
        columns: &[Column<T>],
        choice: &ColumnChoice,
        empty: &str,
    ) -> Outcome {
        let columns = choice.of(columns, items).map_err(Failure::usage)?;
        match self.global.output {
            Format::Table => {
                print(render_table(&columns, items).as_bytes())?;
                if items.is_empty() {
                    self.note_at_terminal(empty);
                }
                Ok(())
            }
            Format::Csv => print_csv(&columns, items),
            Format::Json | Format::Yaml => self.print_value(&value()),
        }
    }

    /// Prints one thing.
    pub fn print_item<T: Name>(&self, item: &T, columns: &[Column<T>]) -> Outcome {
        match self.global.output {
            Format::Table => print(render_item(columns, item).as_bytes()),
            Format::Csv => print_csv(&columns.iter().collect::<Vec<_>>(), std::slice::from_ref(item)),
            Format::Json | Format::Yaml => self.print_message(item),
        }
    }

    fn print_message(&self, message: &impl Name) -> Outcome {
        self.print_value(&to_json(message))
    }

    /// Prints a value as YAML, or else as JSON.
    pub fn print_value(&self, value: &serde_json::Value) -> Outcome {
        let rendered = match self.global.output {
            Format::Yaml => serde_norway::to_string(value).map_err(std::io::Error::other),
            _ => Ok(format!("{}\n", text::escape_json(&format!("{value:#}")))),
        };
        let rendered = rendered.map_err(|error| Failure::io("failed to write YAML", &error))?;
        print(rendered.as_bytes())
    }
}

fn print_csv<T>(columns: &[&Column<T>], items: &[T]) -> Outcome {
    let rendered = render_csv(columns, items).map_err(std::io::Error::from);
    print(rendered.map_err(|error| Failure::io("failed to write CSV", &error))?.as_bytes())
}

/// Writes to standard output. A reader that has seen enough, as `head`, ends the command without a word.
pub fn print(bytes: &[u8]) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| output_failure(&error))
}

/// The failure for an error of standard output.
pub fn output_failure(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::Exit(128 + SIGPIPE),
        _ => Failure::io("failed to write to standard output", error),
    }
}

/// The signal that ends a program whose output nobody reads: signal(7).
const SIGPIPE: u8 = 13;
