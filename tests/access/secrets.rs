//! Secrets appear nowhere: not in logs, in the database, in events, in the audit log or in errors.

use std::path::{Path, PathBuf};

use insula_api::v1;
use insula_testkit::{Image, ScratchHost};
use insula_types::EnrollmentToken;
use v1::Role;

use super::client::{Keys, Remote, enroll, enroll_with, host, token};

#[test]
fn planted_secrets_are_found_nowhere() {
    let host = host().image(Image::Debian12).start();
    let mut said = give_passwords(&host);
    let tokens = ["next", "waits"].map(|name| token(&host, name, Role::Viewer, ""));
    said.extend(misuse_tokens(&host, &tokens));
    let audit = v1::ListAuditEntriesRequest { page_size: 1000, ..Default::default() };
    said.push(format!("{:?}", host.block_on(host.client().access().list_audit_entries(audit)).unwrap()));
    let events = v1::ListEventsRequest { page_size: 1000, ..Default::default() };
    said.push(format!("{:?}", host.block_on(host.client().events().list_events(events)).unwrap()));

    let mut secrets = vec![PLANTED.as_bytes().to_vec()];
    for token in tokens {
        secrets.push(token.parse::<EnrollmentToken>().unwrap().secret.to_vec());
        secrets.push(token.into_bytes()[40..].to_vec());
    }
    said.iter().for_each(|text| assert_free_of("an answer", text.as_bytes(), &secrets));
    let kept =
        kept_files(&host).into_iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap()));
    let kept: Vec<(String, Vec<u8>)> = kept.collect();
    assert!(kept.iter().any(|(_, bytes)| holds(bytes, b"web1")), "the search finds what is there");
    kept.iter().for_each(|(path, bytes)| assert_free_of(path, bytes, &secrets));
}

/// A text that is part of all passwords.
const PLANTED: &str = "planted-4711";

/// Passes passwords in every way, valid and invalid. Returns all answers.
fn give_passwords(host: &ScratchHost) -> Vec<String> {
    let panel = enroll(host, "panel", Role::Billing, "");
    let create = v1::CreateVpsRequest {
        name: "web1".into(),
        image: "debian-12".into(),
        password: format!("{PLANTED}-first"),
        request_id: "create".into(),
        ..Default::default()
    };
    let second = format!("{PLANTED}-second");
    let set = |vps: &str, password: &str| v1::SetVpsPasswordRequest {
        vps: vps.into(),
        password: password.into(),
        request_id: format!("set-{vps}-{}", password.len()),
        ..Default::default()
    };
    host.block_on(async {
        let mut vps = panel.client().vps();
        let created = vps.create_vps(create.clone()).await.unwrap().into_inner().operation.unwrap();
        let mut said = vec![done(&panel, created).await];
        let changed =
            vps.set_vps_password(set("web1", &second)).await.unwrap().into_inner().operation.unwrap();
        said.push(done(&panel, changed).await);
        let wrong =
            [set("nothing", &second), set("web1", &second.repeat(100)), set("web1", &format!("{second}\n"))];
        for wrong in wrong {
            said.push(format!("{:?}", vps.set_vps_password(wrong).await.unwrap_err()));
        }
        let reused = v1::CreateVpsRequest { password: second, ..create };
        said.push(format!("{:?}", vps.create_vps(reused).await.unwrap_err()));
        said
    })
}

/// Uses one token twice, and the other incompletely. Returns the answers.
fn misuse_tokens(host: &ScratchHost, [used, unused]: &[String; 2]) -> Vec<String> {
    enroll_with(host, used, &Keys::new()).unwrap();
    let again = enroll_with(host, used, &Keys::new()).unwrap_err();
    let pin = unused.parse::<EnrollmentToken>().unwrap().ca;
    let stranger = host.block_on(insula_api::Client::connect_to_enroll(super::ADDRESS, pin)).unwrap();
    let cut = unused[..unused.len() - 7].to_owned();
    let request = v1::EnrollClientRequest { token: cut, certificate_request: Keys::new().request() };
    let cut = host.block_on(stranger.access().enroll_client(request)).unwrap_err();
    [again, cut].map(|status| format!("{status:?}")).to_vec()
}

/// What an operation says, which must succeed.
async fn done(remote: &Remote, operation: v1::Operation) -> String {
    let wait = v1::WaitOperationRequest { id: operation.id, timeout: None };
    let answer = remote.client().operations().wait_operation(wait).await.unwrap().into_inner();
    assert_eq!(answer.operation.as_ref().unwrap().state(), v1::operation::State::Succeeded, "{answer:?}");
    format!("{answer:?}")
}

/// The agent's log, and all files that it keeps outside of the pool, which belongs to the guests.
fn kept_files(host: &ScratchHost) -> Vec<PathBuf> {
    let mut found = vec![host.agent().log().to_owned()];
    let mut directories = vec![host.state_dir(), host.run_dir().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            match entry.path() {
                path if kind.is_dir() && path != Path::new(&host.state_dir().join("pools")) => {
                    directories.push(path)
                }
                path if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found
}

#[track_caller]
fn assert_free_of(what: &str, bytes: &[u8], secrets: &[Vec<u8>]) {
    for secret in secrets {
        assert!(!holds(bytes, secret), "{what} holds {:?}", String::from_utf8_lossy(secret));
    }
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|part| part == wanted)
}
