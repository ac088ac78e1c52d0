//! Tests of the rules of session input in separate calls, without a guest.

use super::*;
use insula_api::access::Method;

fn caller(name: &str) -> Caller {
    let method = Method::of("/insula.v1.VpsService/SendExecInput").unwrap();
    Caller { requester: Requester { name: name.to_owned(), ..Requester::root() }, method }
}

fn place(session: &str, number: u64, content: u8, kind: Kind) -> Place<'_> {
    Place { session, number, content: Content { digest: [content; 32], bytes: 1 }, kind }
}

fn reason(result: Result<(), Status>) -> Option<Reason> {
    result.err().and_then(|status| ApiError::from(&status).reason())
}

#[tokio::test]
async fn messages_are_taken_in_their_order_and_once() {
    use Kind::{Control, Data, End};
    let inputs = Inputs::<u8>::default();
    let alice = caller("alice");
    let (session, mut input) = inputs.open(&alice).unwrap();
    let out_of_order = Some(Reason::InputOutOfOrder);
    // number, content, kind, whether it is refused, and what arrives
    for (number, content, kind, refused, arrives) in [
        (0, 1, Data, out_of_order, None),
        (2, 1, Data, out_of_order, None),
        (1, 1, Data, None, Some(1)),
        (1, 1, Data, None, None),         // a retry
        (1, 9, Data, out_of_order, None), // a replay with something else
        (2, 2, Control, None, Some(2)),
        (1, 1, Data, out_of_order, None), // an old one
        (3, 3, End, None, Some(3)),
        (3, 3, End, None, None),
        (4, 4, Data, out_of_order, None), // after the end
        (4, 4, End, out_of_order, None),
        (4, 4, Control, None, Some(4)),
        (u64::MAX, 5, Data, out_of_order, None),
    ] {
        let what = format!("{number} {content} {kind:?}");
        let sent = inputs.send(&alice, place(&session.id, number, content, kind), content).await;
        assert_eq!(reason(sent), refused, "{what}");
        assert_eq!(input.try_recv().ok(), arrives, "{what}");
    }
}

#[tokio::test]
async fn a_session_is_its_clients_and_ends_with_its_stream() {
    let inputs = Inputs::<u8>::default();
    let alice = caller("alice");
    let (session, _input) = inputs.open(&alice).unwrap();
    let id = session.id.clone();
    let first = |id: &str| place(id, 1, 0, Kind::Data).session.to_owned();
    assert_eq!((id.len(), first(&id)), (64, id.clone()));
    let not_found = Some(Reason::SessionNotFound);
    let by =
        async |caller: &Caller, id: &str| reason(inputs.send(caller, place(id, 1, 0, Kind::Data), 0).await);
    assert_eq!(by(&caller("bob"), &id).await, not_found);
    assert_eq!(by(&alice, &"0".repeat(64)).await, not_found);
    assert_eq!(by(&alice, "").await, not_found);
    assert_eq!(by(&alice, &id).await, None);
    drop(session);
    assert_eq!(by(&alice, &id).await, not_found);
    assert!(inputs.lock().is_empty());
}

#[tokio::test]
async fn a_message_waits_for_the_one_before() {
    let inputs = Inputs::<u8>::default();
    let alice = caller("alice");
    let (session, mut input) = inputs.open(&alice).unwrap();
    let send = |number: u64| inputs.send(&alice, place(&session.id, number, 0, Kind::Data), 0);
    send(1).await.unwrap();
    let second = send(2);
    tokio::pin!(second);
    assert!(futures::poll!(&mut second).is_pending(), "nobody has taken the first");
    let mut retries: Vec<_> = (0..MOST_CALLS).map(|_| Box::pin(send(2))).collect();
    for retry in &mut retries[..MOST_CALLS - 1] {
        assert!(futures::poll!(retry).is_pending());
    }
    let one_more = retries.pop().unwrap().await;
    assert_eq!(reason(one_more), Some(Reason::RateLimited));
    assert_eq!(input.recv().await, Some(0));
    second.await.unwrap();
    for retry in retries {
        retry.await.unwrap();
    }
    assert_eq!((input.try_recv().ok(), input.try_recv().ok()), (Some(0), None), "retries did nothing");
}

#[tokio::test]
async fn a_message_has_a_length() {
    let inputs = Inputs::<u8>::default();
    let alice = caller("alice");
    let (session, mut input) = inputs.open(&alice).unwrap();
    let send = |bytes: usize| {
        let content = Content { digest: [0; 32], bytes };
        inputs.send(&alice, Place { session: &session.id, number: 1, content, kind: Kind::Data }, 0)
    };
    assert_eq!(reason(send(MOST_BYTES + 1).await), Some(Reason::InvalidArgument));
    assert_eq!(input.try_recv().ok(), None);
    send(MOST_BYTES).await.unwrap();
    assert_eq!(input.try_recv().ok(), Some(0), "the refused message took no number");
}

#[tokio::test]
async fn a_call_that_is_cancelled_has_not_been_taken() {
    let inputs = Inputs::<u8>::default();
    let alice = caller("alice");
    let (session, mut input) = inputs.open(&alice).unwrap();
    let send = |number: u64| inputs.send(&alice, place(&session.id, number, 0, Kind::Data), 0);
    send(1).await.unwrap();
    {
        let second = send(2);
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
    }
    assert_eq!(input.recv().await, Some(0));
    send(2).await.unwrap();
}

#[tokio::test]
async fn a_client_has_so_many_sessions() {
    let inputs = Inputs::<u8>::default();
    let alice = caller("alice");
    let mut open: Vec<_> = (0..MOST_PER_CLIENT).map(|_| inputs.open(&alice).unwrap()).collect();
    assert_eq!(inputs.open(&alice).err().and_then(|error| error.reason()), Some(Reason::RateLimited));
    inputs.open(&caller("bob")).expect("another's don't count");
    open.pop();
    inputs.open(&alice).expect("one has ended");
}

fn short(idle_ms: u64, longest_ms: u64) -> Inputs<u8> {
    let (idle, longest) = (Duration::from_millis(idle_ms), Duration::from_millis(longest_ms));
    Inputs { life: Life { idle, longest }, open: Arc::default() }
}

/// The last message of a session whose answers come at this interval, and how long the session
/// lasted.
async fn last_word(inputs: &Inputs<u8>, every: Option<Duration>) -> (String, Duration) {
    let begin = Instant::now();
    let (session, _input) = inputs.open(&caller("alice")).unwrap();
    let answers = futures::stream::unfold((), move |()| async move {
        match every {
            Some(every) => sleep_until(Instant::now() + every).await,
            None => futures::future::pending().await,
        }
        Some((Ok(String::new()), ()))
    });
    let answers = Box::pin(answers) as std::pin::Pin<Box<dyn Stream<Item = _> + Send>>;
    let all = session.stream(|id| id, answers, |answer: String| answer).collect::<Vec<_>>().await;
    assert!(inputs.lock().is_empty());
    let last = all.into_iter().last().unwrap().unwrap_err();
    assert_eq!(last.code(), tonic::Code::DeadlineExceeded);
    (last.message().to_owned(), begin.elapsed())
}

#[tokio::test]
async fn a_session_ends_when_nothing_happens_and_in_any_case() {
    let (idle, hour) = (Duration::from_millis(50), 3_600_000);
    let (word, lasted) = last_word(&short(50, hour), None).await;
    assert!(word.contains("has been idle") && lasted >= idle, "{word} {lasted:?}");
    let (word, lasted) = last_word(&short(hour, 200), Some(idle)).await;
    assert!(word.contains("has lasted") && lasted >= idle * 4, "{word} {lasted:?}");
}

#[tokio::test]
async fn input_keeps_a_session_open() {
    let (opened_at, life) = (Instant::now(), short(0, 7_200_000).life);
    let active = watch::Sender::new(opened_at);
    assert!(over(opened_at, life, active.subscribe()).await.contains("idle"));
    active.send_replace(opened_at + Duration::from_secs(3600)); // as if it came then
    assert!(futures::poll!(Box::pin(over(opened_at, life, active.subscribe()))).is_pending());
}
