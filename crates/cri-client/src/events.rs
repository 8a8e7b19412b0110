//! `GetContainerEvents` as one stream that outlives connections.
//!
//! Says when it is connected and when not; what to do about what happened in between is the consumer's.

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, stream};
use tokio::time::Instant;
use tonic::{Code, Response, Status, Streaming};

use crate::client::{Client, runtime_client};
use util::Backoff;

use crate::connection::{LONGEST_PAUSE, PAUSES};
use crate::error::Error;
use crate::v1::{ContainerEventResponse, GetEventsRequest};

const METHOD: &str = "GetContainerEvents";

/// What the stream of container events has to say.
#[derive(Debug)]
pub enum EventItem {
    /// Subscribed, for the first time or again: from here on nothing is missed. List now. A runtime may replay
    /// events of the last minutes with the states of that time (containerd 2.1 does): drop those created before
    /// the list.
    Connected,
    /// Something happened.
    Event(Box<ContainerEventResponse>),
    /// Not, or no longer, subscribed. The stream tries again after 100 ms, doubling to 3 s.
    Lost(Error),
    /// The runtime has no events (containerd 1.6). The last item.
    Unsupported(Error),
}

type Answer = Result<Response<Streaming<ContainerEventResponse>>, Status>;

enum State {
    Waiting,
    /// Subscribed, but no headers yet: Go's servers send them with the first event.
    Subscribed(BoxFuture<'static, Answer>),
    Receiving(Box<Streaming<ContainerEventResponse>>),
    Ended,
}

struct Events {
    client: Client,
    state: State,
    pauses: Backoff,
    since: Instant,
}

/// The stream for `client`; ends only when the runtime has no events.
pub(crate) fn events(client: Client) -> impl Stream<Item = EventItem> + Send + 'static {
    let first = Events { client, state: State::Waiting, pauses: PAUSES, since: Instant::now() };
    stream::unfold(first, |mut events| async move { events.next().await.map(|item| (item, events)) })
}

impl Events {
    /// Not to be dropped half-way; the stream around it keeps the future until it is done.
    async fn next(&mut self) -> Option<EventItem> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Waiting => return Some(self.subscribe().await),
                State::Subscribed(answer) => match answer.await {
                    Ok(response) => self.state = State::Receiving(Box::new(response.into_inner())),
                    Err(status) => return Some(self.failed(&status)),
                },
                State::Receiving(mut stream) => {
                    return Some(match stream.message().await {
                        Ok(Some(event)) => {
                            self.state = State::Receiving(stream);
                            EventItem::Event(Box::new(event))
                        }
                        Ok(None) => self.failed(&Status::unavailable("the runtime ended the stream")),
                        Err(status) => self.failed(&status),
                    });
                }
                State::Ended => return None,
            }
        }
    }

    async fn subscribe(&mut self) -> EventItem {
        let connection = self.client.runtime().clone();
        // No attempt where the connection would refuse it.
        tokio::time::sleep(self.pauses.pause().max(connection.pause())).await;
        let mut client = runtime_client(connection.channel());
        let mut answer = async move { client.get_container_events(GetEventsRequest {}).await }.boxed();
        // The subscription itself may stay silent for hours. It went first on the same connection, so an answer
        // to a second call proves that it has arrived.
        tokio::select! {
            biased;
            answered = &mut answer => match answered {
                Ok(response) => self.connected(State::Receiving(Box::new(response.into_inner()))),
                Err(status) => self.failed(&status),
            },
            version = self.client.version() => match version {
                Ok(_) => self.connected(State::Subscribed(answer)),
                Err(error) => self.lost(error),
            },
        }
    }

    fn connected(&mut self, state: State) -> EventItem {
        self.state = state;
        self.since = Instant::now();
        EventItem::Connected
    }

    fn failed(&mut self, status: &Status) -> EventItem {
        let error = self.client.runtime().failed(METHOD, status);
        if status.code() == Code::Unimplemented {
            return EventItem::Unsupported(error);
        }
        self.lost(error)
    }

    fn lost(&mut self, error: Error) -> EventItem {
        // A subscription that held for a while starts the pauses anew; one that breaks at once does not.
        if self.since.elapsed() > LONGEST_PAUSE {
            self.pauses.succeeded();
        }
        self.pauses.failed();
        self.state = State::Waiting;
        EventItem::Lost(error)
    }
}
