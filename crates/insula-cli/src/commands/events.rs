//! `insula events`

use clap::builder::PossibleValuesParser;
use insula_api::json::to_json;
use insula_api::v1::{Event, ListEventsRequest, WatchEventsRequest};
use insula_types::EventBody;
use tonic::Status;

use crate::columns::EVENT_COLUMNS;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::global::Format;
use crate::output::print;
use crate::requests::BackOff;
use crate::table::{Column, ColumnChoice, render_csv};
use crate::text::{escape_json, printable};

/// The arguments of `insula events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula events
  insula events --follow --vps web1
  insula events --follow --since 4711 -o json | while read -r event; do …; done

Each event has a cursor; --since CURSOR continues after it, and --since 0 begins with the oldest event that is kept. \
With --follow and without --since, only new events are shown. After a broken connection, the command continues after the \
last event that it has shown: none is missed, and none is shown twice.")]
pub struct Events {
    /// Keep showing new events, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Begin after the event with this cursor
    #[arg(long, value_name = "CURSOR")]
    since: Option<String>,
    /// Only those about this VPS, by name or id
    #[arg(long, value_name = "NAME")]
    vps: Option<String>,
    /// Only those about VPSes of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only these kinds, separated by commas
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    #[arg(value_parser = PossibleValuesParser::new(EventBody::KINDS))]
    kinds: Vec<String>,
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

impl Events {
    /// Shows what has happened, or what happens.
    pub async fn run(self, context: &Context) -> Outcome {
        let columns = self.columns.of(EVENT_COLUMNS, &[]).map_err(Failure::usage)?;
        let mut printer = Printer { format: context.global.output, columns, has_begun: false };
        match self.follow {
            true => self.follow(context, &mut printer).await,
            false => self.list(context, &mut printer).await,
        }
    }

    async fn list(&self, context: &Context, printer: &mut Printer) -> Outcome {
        let mut request = ListEventsRequest {
            page_size: 1000,
            page_token: self.since.clone().unwrap_or_default(),
            vps: self.vps.clone().unwrap_or_default(),
            tenant: self.tenant.clone().unwrap_or_default(),
            kinds: self.kinds.clone(),
        };
        let mut service = context.client().await?.events();
        loop {
            let page = service.list_events(request.clone()).await?.into_inner();
            page.events.iter().try_for_each(|event| printer.print(event))?;
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn follow(&self, context: &Context, printer: &mut Printer) -> Outcome {
        context.client().await?; // do not wait for an agent that is not running at the beginning
        let mut cursor = self.since.clone().unwrap_or_default();
        let mut back_off = BackOff::endless();
        loop {
            match self.watch(context, &mut cursor, printer, &mut back_off).await {
                Err(failure) if failure.is_lost_connection() => {
                    back_off.wait(context).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Shows events, until the line breaks.
    async fn watch(
        &self,
        context: &Context,
        cursor: &mut String,
        printer: &mut Printer,
        back_off: &mut BackOff,
    ) -> Outcome {
        let request = WatchEventsRequest {
            cursor: cursor.clone(),
            vps: self.vps.clone().unwrap_or_default(),
            tenant: self.tenant.clone().unwrap_or_default(),
            kinds: self.kinds.clone(),
        };
        let mut events = context.client().await?.events().watch_events(request).await?.into_inner();
        loop {
            let ended = || Status::unavailable("the agent ended the stream");
            let answer = events.message().await?.ok_or_else(ended)?;
            *back_off = BackOff::endless();
            answer.event.as_ref().map_or(Ok(()), |event| printer.print(event))?;
            *cursor = answer.cursor;
        }
    }
}

/// Shows one event after the other, each as a whole.
struct Printer {
    format: Format,
    columns: Vec<&'static Column<Event>>,
    has_begun: bool,
}

impl Printer {
    fn print(&mut self, event: &Event) -> Outcome {
        let rendered = self.render(event)?;
        self.has_begun = true;
        print(rendered.as_bytes())
    }

    fn render(&self, event: &Event) -> Outcome<String> {
        let failed = |error| Failure::io("failed to write an event", &error);
        match self.format {
            Format::Table => Ok(render_line(&self.columns, event)),
            Format::Json => Ok(format!("{}\n", escape_json(&to_json(event).to_string()))),
            Format::Yaml => serde_norway::to_string(&to_json(event))
                .map(|document| format!("---\n{document}"))
                .map_err(|error| failed(std::io::Error::other(error))),
            Format::Csv => {
                let rows = render_csv(&self.columns, std::slice::from_ref(event));
                let rows = rows.map_err(|error| failed(error.into()))?;
                let skipped = if self.has_begun { rows.find('\n').map_or(0, |end| end + 1) } else { 0 };
                Ok(rows[skipped..].to_owned())
            }
        }
    }
}

/// The columns side by side. Further events are not known yet, so columns can't be as wide as their widest value.
fn render_line(columns: &[&Column<Event>], event: &Event) -> String {
    let cells = columns.iter().map(|column| match (column.value)(event) {
        value if value.is_empty() => format!("{:<12}", "-"),
        value => format!("{:<12}", printable(&value)),
    });
    format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_api::v1::event::Payload;
    use insula_api::v1::{OperationEvent, VpsState, VpsStateEvent, operation::State};

    fn event(cursor: &str, payload: Payload) -> Event {
        let (vps_name, payload) = ("web1".into(), Some(payload));
        Event { cursor: cursor.into(), vps_name, payload, ..Default::default() }
    }

    fn render(format: Format) -> String {
        let columns = ColumnChoice::default().of(EVENT_COLUMNS, &[]).unwrap();
        let mut printer = Printer { format, columns, has_begun: false };
        let state = VpsStateEvent { state: VpsState::Ready.into(), previous_state: VpsState::Running.into() };
        let operation = OperationEvent {
            kind: "start-vps".into(),
            state: State::Failed.into(),
            reason: "POOL_FULL".into(),
            requester: "panel\x1b[2J".into(),
            ..Default::default()
        };
        let events = [event("41", Payload::VpsState(state)), event("42", Payload::Operation(operation))];
        let mut rendered = String::new();
        for event in &events {
            rendered += &printer.render(event).unwrap();
            printer.has_begun = true;
        }
        rendered
    }

    #[test]
    fn an_event_is_a_line() {
        insta::assert_snapshot!(render(Format::Table), @"
        41            -             web1          ready, was running
        42            -             web1          start-vps failed: POOL_FULL (panel�[2J)
        ");
        insta::assert_snapshot!(render(Format::Csv), @r#"
        cursor,time,vps,what
        41,,web1,"ready, was running"
        42,,web1,start-vps failed: POOL_FULL (panel�[2J)
        "#);
    }

    #[test]
    fn json_has_a_line_for_each_event_and_yaml_a_document() {
        let lines = render(Format::Json);
        let cursors = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        assert!(cursors.map(|event| event["cursor"].clone()).eq(["41", "42"]));
        assert_eq!(render(Format::Yaml).matches("---\n").count(), 2);
    }
}
