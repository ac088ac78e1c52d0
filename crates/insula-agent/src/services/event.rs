//! `EventService`: watching events.

use std::pin::Pin;

use futures::Stream;
use insula_api::convert::parse_optional;
use insula_api::{ApiError, v1};
use insula_engine::EventFilter;
use insula_types::{EventBody, EventRecord, HostId};
use tonic::{Request, Response, Status};

use crate::services::page::{Page, Size};
use crate::services::{Caller, Shared, agent_ends};
use crate::status::status;

type Answer<T> = Result<Response<T>, Status>;

impl Shared {
    fn event_filter(
        &self,
        caller: &Caller,
        vps: &str,
        tenant: &str,
        kinds: Vec<String>,
    ) -> Result<EventFilter, Status> {
        let unknown = |kind: &&String| !EventBody::KINDS.contains(&kind.as_str());
        if let Some(kind) = kinds.iter().find(unknown) {
            let shown: String = kind.chars().take(80).collect();
            return Err(ApiError::invalid_field(
                "kinds",
                format!("there are no events of the kind {shown:?}"),
            )
            .with_hint(format!("there are {}", EventBody::KINDS.join(", ")))
            .into());
        }
        let vps = match vps {
            "" => None,
            name => Some(caller.find(self.engine.vps_or_deleted(name), name)?.id),
        };
        Ok(EventFilter { vps, tenant: caller.within_or(tenant)?, kinds })
    }
}

#[tonic::async_trait]
impl v1::event_service_server::EventService for Shared {
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<v1::WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let caller = Caller::of(&request)?;
        let v1::WatchEventsRequest { cursor, vps, tenant, kinds } = request.into_inner();
        let after = parse_optional("cursor", &cursor)?;
        let filter = self.event_filter(&caller, &vps, &tenant, kinds)?;
        let mut events = self.engine.watch_events(after, filter).await.map_err(status)?;
        let (ended, host) = (self.ended(), self.engine.host_id());
        let stream = async_stream::stream! {
            tokio::pin!(ended);
            yield Ok(v1::WatchEventsResponse { event: None, cursor: events.cursor().to_string() });
            loop {
                let next = tokio::select! {
                    next = events.next() => next.map_err(status),
                    () = &mut ended => Err(agent_ends()),
                };
                match next {
                    Ok(batch) => for record in batch {
                        yield Ok(message(&record, host));
                    },
                    Err(error) => {
                        yield Err(error);
                        break;
                    }
                }
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_events(&self, request: Request<v1::ListEventsRequest>) -> Answer<v1::ListEventsResponse> {
        let caller = Caller::of(&request)?;
        let v1::ListEventsRequest { page_size, page_token, vps, tenant, kinds } = request.into_inner();
        let page = Page::<u64>::read(page_size, &page_token, Size { usual: 100, most: 1000 })?;
        let filter = self.event_filter(&caller, &vps, &tenant, kinds)?;
        let mut events =
            self.engine.events(page.after.unwrap_or(0), page.count(), filter).await.map_err(status)?;
        let next_page_token = page.cut(&mut events, |record| record.sequence);
        let host = self.engine.host_id();
        let events = events.iter().map(|record| event(record, host)).collect();
        Ok(Response::new(v1::ListEventsResponse { events, next_page_token }))
    }
}

/// An event of this host as a message.
fn event(record: &EventRecord, host: HostId) -> v1::Event {
    v1::Event { host: host.to_string(), ..record.into() }
}

fn message(record: &EventRecord, host: HostId) -> v1::WatchEventsResponse {
    v1::WatchEventsResponse { event: Some(event(record, host)), cursor: record.sequence.to_string() }
}
