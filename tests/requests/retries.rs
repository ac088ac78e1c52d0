//! A request that is sent again is done once. A change that somebody else made is not overwritten.
//! A request that is only validated does nothing. Lists come in pages.

use std::collections::BTreeMap;

use insula_api::{Reason, v1};
use insula_testkit::{Image, ScratchHost, call, done, reason};
use v1::operation::State;

use super::{create, make, names};

#[test]
fn a_request_is_done_once_however_often_it_is_sent() {
    let mut host = ScratchHost::with(Image::Debian12);
    let request = v1::CreateVpsRequest { request_id: "order-4711".into(), ..create("web1") };
    let first = done!(host, vps.create_vps(request.clone()));
    assert_eq!(first.request_id, "order-4711");
    let again = done!(host, vps.create_vps(request.clone()));
    assert_eq!(again, first);

    let other = v1::CreateVpsRequest { profile: "large".into(), ..request.clone() };
    assert_eq!(reason(call!(host, vps.create_vps(other))), Reason::RequestIdReused);
    let other =
        v1::StartVpsRequest { vps: "web1".into(), request_id: "order-4711".into(), ..Default::default() };
    assert_eq!(reason(call!(host, vps.start_vps(other))), Reason::RequestIdReused);

    host.agent_kill();
    host.agent_start();
    assert_eq!(done!(host, vps.create_vps(request.clone())), first, "the next agent knows it, too");
    done_after_the_vps_is_gone(&host, &request, &first);
    assert_eq!(names(&host, ""), [""; 0]);
}

fn done_after_the_vps_is_gone(host: &ScratchHost, request: &v1::CreateVpsRequest, first: &v1::Operation) {
    let delete = v1::DeleteVpsRequest {
        vps: "web1".into(),
        now: true,
        request_id: "order-4711-end".into(),
        ..Default::default()
    };
    let deleted = done!(host, vps.delete_vps(delete.clone()));
    assert_eq!(done!(host, vps.delete_vps(delete)), deleted, "it is gone, and that is what was asked for");
    assert_eq!(&done!(host, vps.create_vps(request.clone())), first, "it is not made again");
}

#[test]
fn twenty_that_ask_at_once_get_one_vps() {
    let host = ScratchHost::with(Image::Debian12);
    let client = host.client();
    let request = v1::CreateVpsRequest { request_id: "order-4711".into(), ..create("web1") };
    let ask = |index: usize| {
        let (mut service, mut request) = (client.vps(), request.clone());
        if index == 13 {
            request.hostname = "other".into(); // one of them means something else
        }
        async move { service.create_vps(request).await.map(|answer| answer.into_inner().operation.unwrap().id) }
    };
    let answers = host.block_on(async {
        let asking: Vec<_> = (0..20).map(|index| tokio::spawn(ask(index))).collect();
        let mut answers = vec![];
        for answer in asking {
            answers.push(answer.await.unwrap());
        }
        answers
    });
    // Whichever came first, the others got the same operation, or a refusal.
    let mut operations: BTreeMap<String, usize> = BTreeMap::new();
    let mut refused = 0;
    for answer in answers {
        match answer {
            Ok(id) => *operations.entry(id).or_default() += 1,
            Err(status) => {
                assert_eq!(reason::<()>(Err(status)), Reason::RequestIdReused);
                refused += 1;
            }
        }
    }
    let counts: Vec<usize> = operations.values().copied().collect();
    assert!((&*counts, refused) == (&[19], 1) || (&*counts, refused) == (&[1], 19), "{counts:?}, {refused}");
    assert_eq!(names(&host, ""), ["web1"]);
}

/// A client that is gone gets no answer, but its request is still done.
#[test]
fn a_retry_to_the_next_agent_meets_what_the_dead_one_began() {
    let mut host = ScratchHost::with(Image::Debian12);
    make(&host, &["web0"]);
    for number in 1..=8 {
        let request =
            v1::CreateVpsRequest { request_id: format!("order-{number}"), ..create(&format!("web{number}")) };
        let begun = call!(host, vps.create_vps(request.clone())).unwrap().operation.unwrap();
        host.agent_kill();
        host.agent_start();
        let made = done!(host, vps.create_vps(request));
        assert_eq!(made.id, begun.id);
        assert_eq!(host.vps(&format!("web{number}")).id, made.target);
    }
    assert_eq!(host.vpses().len(), 9);
}

#[test]
fn what_somebody_else_has_changed_is_not_overwritten() {
    let host = ScratchHost::with(Image::Debian12);
    make(&host, &["web1"]);
    let seen = host.vps("web1").etag;
    let label = |etag: &str, value: &str| v1::UpdateVpsRequest {
        vps: "web1".into(),
        changes: Some(v1::VpsChanges { labels: [("env".into(), value.into())].into(), ..Default::default() }),
        etag: etag.into(),
        ..Default::default()
    };
    done!(host, vps.update_vps(label(&seen, "prod")));
    assert_ne!(host.vps("web1").etag, seen);
    assert_eq!(reason(call!(host, vps.update_vps(label(&seen, "test")))), Reason::EtagMismatch);
    let etag = seen.clone();
    let delete = v1::DeleteVpsRequest { vps: "web1".into(), now: true, etag, ..Default::default() };
    assert_eq!(reason(call!(host, vps.delete_vps(delete))), Reason::EtagMismatch);
    let etag = seen.clone();
    let rename =
        v1::RenameVpsRequest { vps: "web1".into(), new_name: "web2".into(), etag, ..Default::default() };
    assert_eq!(reason(call!(host, vps.rename_vps(rename))), Reason::EtagMismatch);
    assert_eq!(host.vps("web1").labels["env"], "prod");
    done!(host, vps.update_vps(label(&host.vps("web1").etag, "test")));
}

#[test]
fn what_is_only_to_be_validated_is_not_done() {
    let host = ScratchHost::with(Image::Debian12);
    make(&host, &["web1"]);
    let before = (host.vpses(), operations(&host), events(&host));
    let vps = || "web1".to_owned();
    let answers = [
        call!(host, vps.create_vps(v1::CreateVpsRequest { validate_only: true, ..create("web2") }))
            .unwrap()
            .operation,
        call!(
            host,
            vps.clone_vps(v1::CloneVpsRequest {
                vps: vps(),
                name: "web2".into(),
                validate_only: true,
                ..Default::default()
            })
        )
        .unwrap()
        .operation,
        call!(
            host,
            vps.start_vps(v1::StartVpsRequest { vps: vps(), validate_only: true, ..Default::default() })
        )
        .unwrap()
        .operation,
        call!(
            host,
            vps.rename_vps(v1::RenameVpsRequest {
                vps: vps(),
                new_name: "web2".into(),
                validate_only: true,
                ..Default::default()
            })
        )
        .unwrap()
        .operation,
        call!(
            host,
            vps.suspend_vps(v1::SuspendVpsRequest {
                vps: vps(),
                reason: "unpaid".into(),
                validate_only: true,
                ..Default::default()
            })
        )
        .unwrap()
        .operation,
        call!(
            host,
            vps.delete_vps(v1::DeleteVpsRequest {
                vps: vps(),
                now: true,
                validate_only: true,
                ..Default::default()
            })
        )
        .unwrap()
        .operation,
        call!(
            host,
            snapshots.create_snapshot(v1::CreateSnapshotRequest {
                vps: vps(),
                validate_only: true,
                ..Default::default()
            })
        )
        .unwrap()
        .operation,
    ];
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!((&*answer.id, answer.state()), ("", State::Succeeded), "{answer:?}");
    }
    let wrong = v1::CreateVpsRequest { validate_only: true, profile: "huge".into(), ..create("web2") };
    assert_eq!(reason(call!(host, vps.create_vps(wrong))), Reason::ProfileNotFound);
    assert_eq!((host.vpses(), operations(&host), events(&host)), before);
}

fn operations(host: &ScratchHost) -> Vec<v1::Operation> {
    call!(host, operations.list_operations(v1::ListOperationsRequest::default())).unwrap().operations
}

fn events(host: &ScratchHost) -> Vec<v1::Event> {
    call!(host, events.list_events(v1::ListEventsRequest::default())).unwrap().events
}

#[test]
fn lists_are_filtered_and_come_in_pages() {
    let host = ScratchHost::with(Image::Debian12);
    for (name, tenant, env) in
        [("a", "acme", "prod"), ("b", "acme", "test"), ("c", "", "prod"), ("d", "", "a b")]
    {
        let labels = [("env".to_owned(), env.to_owned())].into();
        done!(host, vps.create_vps(v1::CreateVpsRequest { tenant: tenant.into(), labels, ..create(name) }));
    }
    for name in ["b", "c"] {
        done!(host, vps.delete_vps(v1::DeleteVpsRequest { vps: name.into(), ..Default::default() }));
    }
    make(&host, &["b"]);
    for (filter, expected) in [
        ("", &["a", "b", "d"][..]),
        ("tenant=acme", &["a"]),
        ("tenant!=acme AND state=stopped", &["b", "d"]),
        ("labels.env=\"a b\"", &["d"]),
        ("labels.env=prod AND name=a", &["a"]),
        ("state=ready", &[]),
    ] {
        assert_eq!(names(&host, filter), expected, "{filter}");
    }
    let wrong = v1::ListVpsesRequest { filter: "colour=blue".into(), ..Default::default() };
    assert_eq!(reason(call!(host, vps.list_vpses(wrong))), Reason::InvalidArgument);
    pages(&host);
}

/// The trash is listed only on request, where names may occur twice.
fn pages(host: &ScratchHost) {
    let (mut shown, mut sizes, mut page_token) = (vec![], vec![], String::new());
    loop {
        let request =
            v1::ListVpsesRequest { page_size: 2, page_token, show_deleted: true, ..Default::default() };
        let page = call!(host, vps.list_vpses(request)).unwrap();
        sizes.push(page.vpses.len());
        shown.extend(
            page.vpses.into_iter().map(|vps| (vps.name.clone(), vps.state() == v1::VpsState::Deleted)),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    let expected = [("a", false), ("b", true), ("b", false), ("c", true), ("d", false)];
    assert_eq!(shown, expected.map(|(name, is_deleted)| (name.to_owned(), is_deleted)));
    let nonsense = v1::ListVpsesRequest { page_token: "nonsense".into(), ..Default::default() };
    assert_eq!(reason(call!(host, vps.list_vpses(nonsense))), Reason::InvalidArgument);
}
