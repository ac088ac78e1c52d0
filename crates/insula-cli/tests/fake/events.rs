//! The fake agent's `EventService`: five events, on streams that break off.

use insula_api::v1::event_service_server::EventService;

use super::*;

#[tonic::async_trait]
impl EventService for Fake {
    type WatchEventsStream = Answers<WatchEventsResponse>;

    /// Events 1 to 5, of which 2 is about something else. The connection breaks after 3; the command is refused after 5.
    async fn watch_events(&self, request: Request<WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        let cursor = request.into_inner().cursor;
        let (answers, response) = stream();
        tokio::spawn(async move {
            let first = cursor.parse().unwrap_or(0);
            let last = if first < 3 { 3 } else { 5 };
            for number in first..=last {
                let is_shown = number > first && number != 2;
                let answer = WatchEventsResponse {
                    event: is_shown.then(|| event(number)),
                    cursor: number.to_string(),
                };
                let _ = answers.send(Ok(answer)).await; // the command may be gone
            }
            if last == 5 {
                let _ = answers.send(Err(ApiError::new(Reason::CursorExpired, "no more").into())).await;
            }
        });
        Ok(response)
    }

    async fn list_events(&self, request: Request<ListEventsRequest>) -> Answer<ListEventsResponse> {
        let (numbers, next) = match &*request.into_inner().page_token {
            "" => ([1, 2], "2"),
            _ => ([3, 4], ""),
        };
        let events = numbers.map(event).to_vec();
        Ok(Response::new(ListEventsResponse { events, next_page_token: next.to_owned() }))
    }
}

fn event(number: u32) -> Event {
    let state = VpsStateEvent { state: VpsState::Ready.into(), previous_state: VpsState::Running.into() };
    let payload = Some(event::Payload::VpsState(state));
    Event { cursor: number.to_string(), vps_name: "\x1b[31mevil".into(), payload, ..Default::default() }
}
