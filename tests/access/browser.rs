//! Programs, consoles and files over gRPC-Web, as a browser uses them: HTTP/1.1, no stream from the
//! client.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use insula_api::{Reason, v1};
use insula_testkit::{Image, ScratchHost, eventually};
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use v1::Role;
use v1::send_exec_input_request::Input;

use super::client::{Remote, enroll, host, reason, tls};

/// The deadline for anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call whose answers come one by one, on a connection of its own.
struct Call {
    line: TlsStream<TcpStream>,
    /// The bytes that have arrived and have not been read: of HTTP, and of the body.
    raw: Vec<u8>,
    body: Vec<u8>,
}

impl Call {
    async fn open(remote: &Remote, method: &str, message: &impl Message) -> Result<Self, Status> {
        let mut line = tls(remote, Ipv4Addr::LOCALHOST.into(), &[]).await;
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap();
        let head = format!(
            "POST /insula.v1.{method} HTTP/1.1\r\nHost: vps1\r\nContent-Type: application/grpc-web+proto\r\n\
             Content-Length: {}\r\n\r\n",
            message.len() + 5
        );
        let request = [head.as_bytes(), &[0], &length.to_be_bytes(), &message].concat();
        line.write_all(&request).await.unwrap();
        let mut call = Self { line, raw: vec![], body: vec![] };
        let head = String::from_utf8(call.until(b"\r\n\r\n").await).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let refused = Status::from_header_map(&headers(head.split_once("\r\n").unwrap().1));
        refused.map_or(Ok(call), Err)
    }

    async fn more(&mut self) {
        let reading = tokio::time::timeout(PATIENCE, self.line.read_buf(&mut self.raw));
        let read = reading.await.expect("something comes in time").unwrap();
        assert_ne!(read, 0, "the connection ends in the middle");
    }

    /// Reads up to and including `end`, and returns what comes before it.
    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.raw.windows(end.len()).position(|part| part == end) {
                let found = self.raw.drain(..at).collect();
                self.raw.drain(..end.len());
                return found;
            }
            self.more().await;
        }
    }

    /// Reads the body, which comes in chunks (RFC 9112, 7.1), until it holds this many bytes.
    async fn fill(&mut self, length: usize) {
        while self.body.len() < length {
            let size = String::from_utf8(self.until(b"\r\n").await).unwrap();
            let size = usize::from_str_radix(&size, 16).unwrap();
            while self.raw.len() < size + 2 {
                self.more().await;
            }
            self.body.extend(self.raw.drain(..size));
            self.raw.drain(..2);
        }
    }

    /// The next answer. `None` when the call has ended successfully.
    async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, Status> {
        self.fill(5).await;
        let head: Vec<u8> = self.body.drain(..5).collect();
        let length = usize::try_from(u32::from_be_bytes(head[1..].try_into().unwrap())).unwrap();
        self.fill(length).await;
        let frame: Vec<u8> = self.body.drain(..length).collect();
        if head[0] & 0x80 == 0 {
            return Ok(Some(A::decode(&*frame).unwrap()));
        }
        let status = Status::from_header_map(&headers(&String::from_utf8(frame).unwrap())).unwrap();
        if status.code() == tonic::Code::Ok { Ok(None) } else { Err(status) }
    }
}

fn headers(text: &str) -> HeaderMap {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.trim().parse().unwrap())).collect()
}

/// A call with one answer.
async fn unary<A: Message + Default>(
    remote: &Remote,
    method: &str,
    message: &impl Message,
) -> Result<A, Status> {
    let mut call = Call::open(remote, method, message).await?;
    let answer = call.next().await?.expect("an answer");
    assert!(call.next::<A>().await?.is_none());
    Ok(answer)
}

fn browsers() -> ScratchHost {
    let host = host().image(Image::Debian12).setting("grpc_web", json!({ "enabled": true })).start();
    host.insula_ok(&["create", "web1", "--image", "debian-12", "--wait", "ready"]);
    host
}

/// Runs a program of the shell. Returns the call and the id of its session.
async fn run(remote: &Remote, script: &str) -> (Call, String) {
    let start = v1::exec_vps_request::Start {
        vps: "web1".into(),
        command: ["sh", "-c", script].map(String::from).into(),
        ..Default::default()
    };
    let request = v1::StartExecRequest { start: Some(start) };
    let mut call = Call::open(remote, "VpsService/StartExec", &request).await.unwrap();
    let first = call.next::<v1::StartExecResponse>().await.unwrap().unwrap().response;
    let Some(v1::start_exec_response::Response::SessionId(id)) = first else { panic!("{first:?}") };
    assert!(matches!(output(&mut call).await, v1::exec_vps_response::Response::Started(true)));
    (call, id)
}

async fn output(call: &mut Call) -> v1::exec_vps_response::Response {
    let answer = call.next::<v1::StartExecResponse>().await.unwrap().expect("an answer").response;
    let Some(v1::start_exec_response::Response::Output(output)) = answer else { panic!("{answer:?}") };
    output.response.unwrap()
}

/// Sends input. The error is the reason of a refusal.
async fn send(remote: &Remote, id: &str, sequence: u64, input: Input) -> Option<Reason> {
    let request = v1::SendExecInputRequest { session_id: id.into(), sequence, input: Some(input) };
    let sent = unary::<v1::SendExecInputResponse>(remote, "VpsService/SendExecInput", &request).await;
    sent.err().map(|status| reason(&status).unwrap_or_else(|| panic!("{status:?}")))
}

#[test]
fn a_browser_runs_programs() {
    use v1::exec_vps_response::{Exit, Response, exit};
    let host = browsers();
    let panel = enroll(&host, "panel", Role::SuperAdmin, "");
    let other = enroll(&host, "other", Role::SuperAdmin, "");
    let viewer = enroll(&host, "viewer", Role::Viewer, "");
    let stdin = |text: &str| Input::Stdin(text.into());
    host.block_on(async {
        let script = "trap 'exit 7' TERM; cat; echo end; sleep 1000 & wait";
        let (mut call, id) = run(&panel, script).await;
        assert_eq!(send(&panel, &id, 1, stdin("one\n")).await, None);
        assert_eq!(output(&mut call).await, Response::Stdout("one\n".into()));
        for (client, sequence, input, refused) in [
            (&panel, 1, stdin("one\n"), None), // a retry: does nothing
            (&panel, 1, stdin("won\n"), Some(Reason::InputOutOfOrder)),
            (&panel, 3, stdin("three\n"), Some(Reason::InputOutOfOrder)),
            (&other, 2, stdin("two\n"), Some(Reason::SessionNotFound)),
            (&viewer, 2, stdin("two\n"), Some(Reason::PermissionDenied)),
            (&panel, 2, stdin("two\n"), None),
        ] {
            assert_eq!(send(client, &id, sequence, input.clone()).await, refused, "{sequence} {input:?}");
        }
        assert_eq!(output(&mut call).await, Response::Stdout("two\n".into()));
        assert_eq!(send(&panel, &id, 3, Input::StdinEof(true)).await, None);
        assert_eq!(output(&mut call).await, Response::Stdout("end\n".into()));
        assert_eq!(send(&panel, &id, 4, stdin("late\n")).await, Some(Reason::InputOutOfOrder));
        assert_eq!(send(&panel, &id, 4, Input::Signal(15)).await, None);
        assert_eq!(output(&mut call).await, Response::Exit(Exit { result: Some(exit::Result::Code(7)) }));
        assert!(call.next::<v1::StartExecResponse>().await.unwrap().is_none());
        assert_eq!(send(&panel, &id, 5, stdin("later\n")).await, Some(Reason::SessionNotFound));
    });
    let audit = host.insula_ok(&["audit", "list", "--requester", "panel", "-o", "csv"]);
    assert!(audit.contains("exec-vps"), "{audit}");
}

#[test]
fn a_session_ends_with_the_browsers_connection() {
    let host = browsers();
    let panel = enroll(&host, "panel", Role::SuperAdmin, "");
    let (call, id) = host.block_on(run(&panel, "cat > /root/taken"));
    assert_eq!(host.block_on(send(&panel, &id, 1, Input::Stdin("x".into()))), None);
    drop(call);
    let mut sequence = 1;
    eventually("the session is gone", || {
        sequence += 1;
        let refused = host.block_on(send(&panel, &id, sequence, Input::Resize(v1::TerminalSize::default())));
        (refused == Some(Reason::SessionNotFound)).then_some(())
    });
}

#[test]
fn a_browser_writes_more_than_a_program_reads() {
    let host = browsers();
    let panel = enroll(&host, "panel", Role::SuperAdmin, "");
    host.block_on(async {
        // The pipe takes 64 KiB, and the agent one message while it writes another. The rest has to
        // wait for the reader.
        let (mut call, id) = run(&panel, "read go; wc -c").await;
        assert_eq!(send(&panel, &id, 1, Input::Stdin("\n".into())).await, None);
        let too_long = Input::Stdin(vec![b'x'; 1 << 20]);
        assert_eq!(send(&panel, &id, 2, too_long).await, Some(Reason::InvalidArgument));
        let part = vec![b'x'; 192 << 10];
        for sequence in 2..34 {
            assert_eq!(send(&panel, &id, sequence, Input::Stdin(part.clone())).await, None);
        }
        assert_eq!(send(&panel, &id, 34, Input::StdinEof(true)).await, None);
        let counted = v1::exec_vps_response::Response::Stdout(format!("{}\n", 6 << 20).into());
        assert_eq!(output(&mut call).await, counted);
    });
}

#[test]
fn a_browser_has_the_console() {
    use v1::start_console_response::Response;
    let host = browsers();
    let panel = enroll(&host, "panel", Role::SuperAdmin, "");
    host.block_on(async {
        let start = v1::attach_console_request::Start { vps: "web1".into(), replay: true, terminal: None };
        let request = v1::StartConsoleRequest { start: Some(start) };
        let mut call = Call::open(&panel, "VpsService/StartConsole", &request).await.unwrap();
        let first = call.next::<v1::StartConsoleResponse>().await.unwrap().unwrap().response;
        let Some(Response::SessionId(session_id)) = first else { panic!("{first:?}") };
        let mut shown = String::new();
        let mut expect = async |text: &str| {
            while !shown.contains(text) {
                let answer = call.next::<v1::StartConsoleResponse>().await.unwrap().unwrap().response;
                let Some(Response::Output(output)) = answer else { panic!("{answer:?}") };
                shown.push_str(&String::from_utf8_lossy(&output));
            }
        };
        expect("web1 login:").await;
        let input = v1::send_console_input_request::Input::Data("nobody-4711\r".into());
        let request = v1::SendConsoleInputRequest { session_id, sequence: 1, input: Some(input) };
        unary::<v1::SendConsoleInputResponse>(&panel, "VpsService/SendConsoleInput", &request).await.unwrap();
        expect("nobody-4711").await;
    });
}

/// A file as the items of a transfer.
fn file(name: &str, content: &str) -> Vec<v1::FileItem> {
    use v1::file_item::Item;
    let size_bytes = content.len() as u64;
    let entry = v1::FileEntry {
        path: name.into(),
        r#type: v1::FileType::Regular.into(),
        mode: 0o644,
        size_bytes,
        ..Default::default()
    };
    let data = v1::FileData { offset: 0, data: content.into() };
    [Item::Entry(entry), Item::Data(data), Item::End(v1::FileEnd { size_bytes })]
        .map(|item| v1::FileItem { item: Some(item) })
        .into()
}

#[test]
fn a_browser_puts_files_into_a_vps() {
    use v1::start_push_response::Response;
    let host = browsers();
    let panel = enroll(&host, "panel", Role::SuperAdmin, "");
    host.block_on(async {
        let start = v1::push_files_request::Start {
            vps: "web1".into(),
            path: "/root".into(),
            is_directory: true,
            ..Default::default()
        };
        let request = v1::StartPushRequest { start: Some(start) };
        let mut call = Call::open(&panel, "FileService/StartPush", &request).await.unwrap();
        let first = call.next::<v1::StartPushResponse>().await.unwrap().unwrap().response;
        let Some(Response::SessionId(session_id)) = first else { panic!("{first:?}") };
        let send = async |sequence, items, last| {
            let request = v1::SendPushItemsRequest { session_id: session_id.clone(), sequence, items, last };
            let sent =
                unary::<v1::SendPushItemsResponse>(&panel, "FileService/SendPushItems", &request).await;
            sent.err().and_then(|status| reason(&status))
        };
        assert_eq!(send(1, file("one", "first"), false).await, None);
        assert_eq!(send(1, file("one", "first"), false).await, None, "a retry");
        assert_eq!(send(1, file("one", "other"), false).await, Some(Reason::InputOutOfOrder));
        assert_eq!(send(2, file("two", "second"), true).await, None);
        let last = call.next::<v1::StartPushResponse>().await.unwrap().unwrap().response;
        let expected = v1::PushFilesResponse { entries: 2, size_bytes: 11 };
        assert_eq!(last, Some(Response::Result(expected)));
        assert!(call.next::<v1::StartPushResponse>().await.unwrap().is_none());
        assert_eq!(send(3, vec![], true).await, Some(Reason::SessionNotFound));
    });
    assert_eq!(host.insula_ok(&["exec", "web1", "--", "cat", "/root/one", "/root/two"]), "firstsecond");
}
