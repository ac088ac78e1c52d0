//! A scratch host: a host with an agent of its own, for one test.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use insula_api::{Client, Endpoint, v1};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::Agent;
use crate::image::Image;
use crate::paths::binary;
use crate::process::{Command, Outcome, Process};
use crate::slot::Slot;
use crate::traces::{self, Traces, remove_directory};
use crate::{namespaces, store, template};

/// A host with a running agent. It has its own namespaces for networks and mounts, directories,
/// cgroups and user ids.
///
/// The thread that makes the host lives in its namespaces from then on, and so does everything that
/// the thread starts. When the host is dropped, it is taken down, and the test fails if anything of
/// it is left on the machine.
#[derive(Debug)]
pub struct ScratchHost {
    slot: Slot,
    directory: PathBuf,
    run_dir: PathBuf,
    agent: Agent,
    client: OnceCell<Client>,
    runtime: tokio::runtime::Runtime,
    for_everybody: TempDir,
    _uplink: Option<Process>,
    _of_this_thread: PhantomData<*const ()>,
}

/// The options of a host that is about to be made.
#[derive(Debug, Default)]
pub struct Builder {
    image: Option<Image>,
    has_uplink: bool,
    has_plain_pool: bool,
    settings: serde_json::Map<String, Value>,
}

impl Builder {
    /// Gives the host this image.
    pub fn image(mut self, image: Image) -> Self {
        self.image = Some(image);
        self
    }

    /// Lets the host reach what this machine reaches.
    pub fn uplink(mut self) -> Self {
        self.has_uplink = true;
        self
    }

    /// Gives the host a pool of plain directories.
    pub fn plain_pool(self) -> Self {
        Self { has_plain_pool: true, ..self }.setting("pool", json!({ "driver": "dir" }))
    }

    /// Adds a key to the agent's settings.
    pub fn setting(mut self, key: &str, value: Value) -> Self {
        self.settings.insert(key.to_owned(), value);
        self
    }

    /// Makes the host, and starts its agent.
    #[track_caller]
    pub fn start(self) -> ScratchHost {
        let mut host = self.prepare();
        host.agent_start();
        host
    }

    /// Makes the host. Its agent is not running yet.
    #[track_caller]
    pub fn prepare(self) -> ScratchHost {
        assert!(rustix::process::geteuid().is_root(), "the tests make hosts: run them as root");
        if let Some(image) = self.image {
            ensure_template(image);
        }
        let slot = Slot::take();
        let uplink = namespaces::enter(self.has_uplink);
        let directory = store::ensure_mounted().join(slot.name());
        let run_dir = Path::new("/run").join(slot.name());
        // A test that was killed may have left it.
        remove_directory(&directory);
        remove_directory(&run_dir);
        std::fs::create_dir(&directory).expect("a directory");
        if let Some(image) = self.image {
            let state = directory.join("state");
            let copy = if self.has_plain_pool { template::copy_plain_state } else { template::copy_state };
            copy(image, &state);
        }
        let settings = self.settings(&slot, &directory, &run_dir);
        let config = directory.join("agent.yaml"); // JSON is YAML, too
        std::fs::write(&config, settings.to_string()).expect("the settings");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let for_everybody = tempfile::Builder::new().permissions(open).tempdir().expect("a directory");
        ScratchHost {
            for_everybody,
            agent: Agent::new(config, directory.join("agent.log")),
            slot,
            directory,
            run_dir,
            client: OnceCell::new(),
            runtime,
            _uplink: uplink,
            _of_this_thread: PhantomData,
        }
    }

    fn settings(&self, slot: &Slot, directory: &Path, run_dir: &Path) -> Value {
        let ids = slot.ids();
        let mut settings = json!({
            "state_dir": directory.join("state"),
            "run_dir": run_dir,
            "cgroup_root": slot.name(),
            "ids": { "start": ids.start, "length": ids.length },
            "pool": { "size": "8GiB" },
        });
        let map = settings.as_object_mut().expect("an object");
        map.extend(self.settings.clone());
        settings
    }
}

impl ScratchHost {
    /// The options of a new host, at their defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Makes a host with this image.
    #[track_caller]
    pub fn with(image: Image) -> Self {
        Self::builder().image(image).start()
    }

    /// A program of the project that talks to this host's agent.
    pub fn command(&self, program: &str) -> Command {
        Command::new(binary(program)).env("INSULA_SOCKET", self.socket())
    }

    /// A program of the project that talks to this host's agent, without any privileges.
    pub fn command_as_nobody(&self, program: &str) -> Command {
        let original = binary(program);
        // Not every user may read what is below the target directory.
        let copy = self.for_everybody.path().join(program);
        std::fs::copy(original, &copy).expect("a copy of the program");
        let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
        Command::new("setpriv").args(nobody).args([copy]).env("INSULA_SOCKET", self.socket())
    }

    /// Runs `insula` with these arguments.
    #[track_caller]
    pub fn insula(&self, arguments: &[&str]) -> Outcome {
        self.command("insula").args(arguments).run()
    }

    /// Runs `insula`, which must succeed, and returns its output.
    #[track_caller]
    pub fn insula_ok(&self, arguments: &[&str]) -> String {
        self.insula(arguments).expect_code(0).text()
    }

    /// Runs `insula`, which must succeed, and returns its output as JSON.
    #[track_caller]
    pub fn insula_json(&self, arguments: &[&str]) -> Value {
        self.insula(&[arguments, &["-o", "json"]].concat()).expect_code(0).json()
    }

    /// Runs a line of shell inside a VPS, which must succeed, and returns its output.
    #[track_caller]
    pub fn sh(&self, vps: &str, line: &str) -> String {
        self.insula_ok(&["exec", vps, "--no-tty", "--", "sh", "-c", line])
    }

    /// Creates a VPS from the image, with further arguments for `insula create`, and waits until it
    /// has booted.
    #[track_caller]
    pub fn create_ready(&self, name: &str, image: Image, arguments: &[&str]) {
        let create = ["create", name, "--image", image.alias(), "--wait", "ready"];
        self.insula_ok(&[&create, arguments].concat());
    }

    /// Runs a line of shell inside a VPS over SSH, with the key of [`ssh_key`](Self::ssh_key).
    #[track_caller]
    pub fn ssh(&self, address: &str, line: &str) -> Outcome {
        let options =
            ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];
        let options = options.iter().flat_map(|option| ["-o", option]);
        let key = self.directory.join("key");
        Command::new("ssh")
            .args(options)
            .args(["-i"])
            .args([key])
            .args([&format!("root@{address}"), line])
            .run()
    }

    /// The file of the public key that [`ssh`](Self::ssh) logs in with.
    pub fn ssh_key(&self) -> String {
        let key = self.directory.join("key");
        if !key.exists() {
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).args([&key]).run_ok();
        }
        format!("{}.pub", key.display())
    }

    /// The agent's view of a VPS.
    #[track_caller]
    pub fn vps(&self, name: &str) -> v1::Vps {
        let request = v1::GetVpsRequest { vps: name.to_owned() };
        let answer = self.block_on(self.client().vps().get_vps(request));
        answer.unwrap_or_else(|status| panic!("no VPS {name}: {status}")).into_inner().vps.expect("a VPS")
    }

    /// The usage of a VPS.
    #[track_caller]
    pub fn usage(&self, name: &str) -> v1::VpsUsage {
        let request = v1::GetUsageRequest { vps: name.to_owned() };
        let answer = self.block_on(self.client().usage().get_usage(request));
        answer.unwrap_or_else(|status| panic!("no VPS {name}: {status}")).into_inner().usage.expect("usage")
    }

    /// All VPSes.
    #[track_caller]
    pub fn vpses(&self) -> Vec<v1::Vps> {
        let answer = self.block_on(self.client().vps().list_vpses(v1::ListVpsesRequest::default()));
        answer.unwrap_or_else(|status| panic!("no list: {status}")).into_inner().vpses
    }

    /// A connection to the agent, as root.
    #[track_caller]
    pub fn client(&self) -> Client {
        let connect = || self.block_on(Client::connect(Endpoint::Unix(self.socket()))).expect("an agent");
        self.client.get_or_init(connect).clone()
    }

    /// Waits for a future to complete.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Starts the agent, and waits until it serves.
    #[track_caller]
    pub fn agent_start(&mut self) {
        self.agent.start();
    }

    /// Ends the agent. Guests go on running.
    #[track_caller]
    pub fn agent_stop(&mut self) {
        self.client = OnceCell::new();
        self.agent.stop();
    }

    /// Kills the agent, as a bug or the kernel would. Guests go on running.
    pub fn agent_kill(&mut self) {
        self.client = OnceCell::new();
        self.agent.kill();
    }

    /// The host's agent.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The path of the agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("insulad.sock")
    }

    /// The agent's state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The agent's run directory, with its sockets and other files that may be lost when the host
    /// boots.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The name of the agent's group in each cgroup hierarchy.
    pub fn cgroup_root(&self) -> String {
        self.slot.name()
    }

    /// The path at which the pool is mounted.
    pub fn pool(&self) -> PathBuf {
        self.state_dir().join("pools/default")
    }

    /// A directory for the test's own files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the host has left on the machine so far.
    pub fn traces(&self) -> Traces {
        Traces::observe(&self.state_dir(), &self.run_dir, &self.slot.name())
    }

    /// The host's cgroups, which are quicker to find than all traces.
    pub fn groups(&self) -> BTreeSet<PathBuf> {
        traces::groups(&self.slot.name())
    }

    /// Takes the host down and moves its state away, without what only speeds up the next build.
    fn keep_state(mut self, destination: &Path) {
        self.tear_down();
        remove_directory(&self.state_dir().join("cache"));
        std::fs::rename(self.state_dir(), destination).expect("the state in its place");
    }

    /// Ends the agent and everything that it manages. Then nothing but data may be left.
    fn tear_down(&mut self) {
        self.agent_kill();
        if self.state_dir().exists() {
            self.agent.tear_down().expect_code(0);
        }
        let left = self.traces();
        assert!(left.is_empty(), "the host has left on the machine: {left:#?}");
    }

    /// Kills the guests that a failed test has left, when there is no other way any longer.
    fn kill_guests(&self) {
        for group in self.traces().groups {
            let processes = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for process in processes.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
                let _ = kill_process(process, Signal::KILL); // it may have ended
            }
        }
    }
}

/// Ensures that hosts with this image can be made. The calling thread must have network access.
pub(crate) fn ensure_template(image: Image) {
    template::ensure(image, build_template);
}

/// Builds an image as a user does, on a host that has none, and keeps that host's state.
fn build_template(image: Image, template: &Path) {
    const LIMIT: Duration = Duration::from_secs(900);
    let host = ScratchHost::builder().uplink().start();
    let build = host.command("insula").args(["image", "build", "--quiet"]).args([image.definition()]);
    build.limit(LIMIT).run_ok();
    // Deleted volumes must take no space in the copies.
    let pool = host.pool();
    Command::new("btrfs").args(["subvolume", "sync"]).args([&pool]).run_ok();
    Command::new("fstrim").args([&pool]).run_ok();
    host.keep_state(template);
}

impl Drop for ScratchHost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{}", self.agent.log_end());
            self.agent_kill();
            let outcome = self.agent.tear_down();
            if outcome.code != 0 {
                eprintln!("--- the host can't be taken down\n{outcome}");
                self.kill_guests();
            }
            return; // its directories go with the next host in this slot
        }
        self.tear_down();
        remove_directory(&self.directory);
        remove_directory(&self.run_dir);
    }
}
