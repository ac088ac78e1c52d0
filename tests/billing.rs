//! Runs what `docs/api.md` says as it says it, by a client that is enrolled as a billing panel,
//! over the network.

use std::collections::BTreeMap;
use std::path::PathBuf;

use insula_api::v1;
use insula_testkit::{Command, Image, Outcome, ScratchHost, binary, project_file};
use serde_json::json;

use crate::foreign_client::python_with_grpc;

/// The host that the page names, and its settings.
const HOST: &str = "vps1.example.net";
const SETTINGS: &str = "listen: 0.0.0.0:8443\ntls:\n  names: [vps1.example.net]\n";

/// The page's Python code, in one file.
const PROGRAM: &str = "page.py";

#[test]
fn the_page_about_the_api_does_what_it_says() {
    let panel = Panel::enroll();
    panel.run(&[PROGRAM]);
    panel.check_what_was_done();
}

#[test]
fn a_line_that_is_cut_at_every_call_changes_nothing() {
    let panel = Panel::enroll();
    let runner = project_file("tests/foreign_client/bad_line.py");
    let outcome = panel.run(&[runner.to_str().unwrap(), PROGRAM]);
    for count in ["changes: 6", "streams cut: 1"] {
        assert!(outcome.stderr.lines().any(|line| line == count), "{count:?} is missing: {outcome}");
    }
    panel.check_what_was_done();
}

/// A billing panel: a host whose agent it is enrolled at, and the program of the page.
struct Panel {
    host: ScratchHost,
    page: Page,
    python: PathBuf,
}

impl Panel {
    /// Enrolls as the page says.
    fn enroll() -> Self {
        let page = Page::read();
        assert_eq!(page.blocks("yaml"), [SETTINGS]);
        let python = python_with_grpc(); // from out here: the host reaches no package index
        let host = ScratchHost::builder()
            .image(Image::Debian12)
            .setting("listen", json!("0.0.0.0:8443"))
            .setting("tls", json!({ "names": [HOST] }))
            .start();
        let names = host.directory().join("hosts");
        std::fs::write(&names, format!("127.0.0.1 localhost {HOST}\n")).unwrap();
        Command::new("mount").args(["--bind"]).args([&names]).args(["/etc/hosts"]).run_ok(); // goes with our namespace
        let panel = Self { host, page, python };
        for commands in panel.page.blocks("sh") {
            panel.in_its_place().args(["sh", "-euxc", &commands]).run_ok();
        }
        std::fs::write(panel.host.directory().join(PROGRAM), panel.page.blocks("python").concat()).unwrap();
        panel
    }

    /// A command in the panel's directory, which is also its home.
    fn in_its_place(&self) -> Command {
        let home = self.host.directory();
        let programs = binary("insula").parent().unwrap().display().to_string();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
        let command = Command::new("env").args(["-C"]).args([home]).env("HOME", home).env("PATH", path);
        command.env("INSULA_SOCKET", self.host.socket())
    }

    /// Runs Python, which must print what the page shows.
    fn run(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.in_its_place().args([&self.python]).args(arguments).run_ok();
        let shapes = |text: &str| text.lines().map(shape).collect::<Vec<_>>();
        assert_eq!(shapes(&outcome.text()), shapes(&self.page.blocks("text").concat()), "{outcome}");
        outcome
    }

    /// There is one VPS, and everything was done once, all of it by the panel. The audit log
    /// agrees.
    fn check_what_was_done(&self) {
        let [vps] = &self.everything()[..] else { panic!("not one VPS: {:#?}", self.everything()) };
        assert_eq!((vps.state(), &*vps.profile), (v1::VpsState::Deleted, "medium"));
        let expected =
            ["create-vps", "suspend-vps", "unsuspend-vps", "update-vps", "set-vps-password", "trash-vps"];
        let operations = self.operations();
        let kinds: Vec<_> = operations.iter().map(|operation| &*operation.kind).collect();
        assert_eq!(kinds, expected, "{operations:#?}");
        for operation in &operations {
            let told = (&*operation.requester, operation.state(), &operation.target);
            assert_eq!(told, ("whmcs", v1::operation::State::Succeeded, &vps.id), "{operation:?}");
        }
        assert_eq!(self.audited(), operations.iter().map(|it| (it.request_id.clone(), 2)).collect());
    }

    fn everything(&self) -> Vec<v1::Vps> {
        let request = v1::ListVpsesRequest { show_deleted: true, ..Default::default() };
        self.host.block_on(self.host.client().vps().list_vpses(request)).unwrap().into_inner().vpses
    }

    /// All operations, oldest first, but those of root, which built the image and created the
    /// token.
    fn operations(&self) -> Vec<v1::Operation> {
        let request = v1::ListOperationsRequest::default();
        let list = self.host.block_on(self.host.client().operations().list_operations(request)).unwrap();
        list.into_inner().operations.into_iter().rev().filter(|it| it.requester != "root").collect()
    }

    /// How many entries the audit log has for each of the panel's accepted requests.
    fn audited(&self) -> BTreeMap<String, usize> {
        let request = v1::ListAuditEntriesRequest { requester: "whmcs".into(), ..Default::default() };
        let audit = self.host.block_on(self.host.client().access().list_audit_entries(request)).unwrap();
        let entries = audit.into_inner().entries.into_iter().filter(|entry| !entry.operation.is_empty());
        entries.fold(BTreeMap::new(), |mut counts, entry| {
            *counts.entry(entry.request_id).or_default() += 1;
            counts
        })
    }
}

/// `docs/api.md`.
struct Page(String);

impl Page {
    fn read() -> Self {
        Self(std::fs::read_to_string(project_file("docs/api.md")).unwrap())
    }

    /// The blocks of code in a language, unchanged.
    fn blocks(&self, language: &str) -> Vec<String> {
        let blocks = self.0.split("\n```").skip(1).step_by(2);
        blocks
            .filter_map(|block| Some(block.strip_prefix(language)?.strip_prefix('\n')?.to_owned() + "\n"))
            .collect()
    }
}

/// A line without what differs from run to run: words with digits in them.
fn shape(line: &str) -> String {
    let words =
        line.split(' ').map(|word| if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
    words.collect::<Vec<_>>().join(" ")
}
