//! A scratch host for one test: its own network namespace, cgroup root, run directory and guest, all of which are gone
//! with it.

#![allow(dead_code)] // every test file uses another part

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use insula_runtime::protocol::{ExecEnd, ExecRequest, TerminalSize};
use insula_runtime::{
    CgroupLayout, Event, GuestInput, GuestNic, GuestRoot, HostDevice, HostInput, MonitorConfig,
    MonitorConnection, MonitorProgram, ParkedMonitor, Phase, RebootPolicy, Request, RootPlan, RunFile,
    StartEnd, StartInput, StartPlan, Status, VpsDirectory, plan_start, spawn_parked,
};
use insula_sys::netlink;
use insula_sys::program::Program;
use insula_types::{
    Attachment, ByteSize, CpuCount, ExitRecord, Features, IdRange, InitKind, Limits, MacAddress, VpsId,
};
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, unshare};

/// What a start, a stop, an answer may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// The Debian 12 tree that all guests are copies of: made once per target directory.
fn debian() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (tree, lock) = (cache.join("debian-12"), cache.join("debian-12.lock"));
    let lock = Flock::lock(File::create(lock).unwrap(), FlockArg::LockExclusive).unwrap();
    if !tree.exists() {
        let new = cache.join("debian-12.new");
        let _ = fs::remove_dir_all(&new);
        Program::new("unshare")
            .args(["--mount", "--propagation", "private", "mmdebstrap", "--quiet", "--variant=minbase"])
            // Every test copies every file.
            .args(
                ["doc", "man", "locale", "info", "i18n", "zoneinfo"]
                    .map(|useless| format!("--dpkgopt=path-exclude=/usr/share/{useless}/*")),
            )
            .arg("--include=systemd-sysv,dbus,openssh-server,iproute2,iputils-ping")
            .arg("bookworm")
            .arg(&new)
            .limit(Duration::from_secs(600))
            .output()
            .unwrap();
        fs::rename(&new, &tree).unwrap();
    }
    drop(lock);
    tree
}

pub struct ScratchHost {
    pub id: VpsId,
    pub layout: CgroupLayout,
    pub ids: IdRange,
    pub limits: Limits,
    pub features: Features,
    pub host_devices: Vec<HostDevice>,
    pub program: MonitorProgram,
    pub directory: VpsDirectory,
    pub run_dir: PathBuf,
    pub root: PathBuf,
    scratch: tempfile::TempDir,
}

impl ScratchHost {
    /// Makes a host with a guest that is not started. The calling thread goes to a network namespace of its own.
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let debian = debian(); // built from the network that the test leaves
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs CAP_SYS_ADMIN");
        let id = VpsId::new();
        let layout = CgroupLayout::observe(format!("insula-test-{:012x}", id.short())).unwrap();
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (root, run_dir) = (scratch.path().join("root"), scratch.path().join("run"));
        let copy = Program::new("cp").args(["-a", "--reflink=auto"]).arg(debian).arg(&root);
        copy.limit(Duration::from_secs(300)).output().unwrap(); // 230 MB, on a disk that others write to as well
        fs::create_dir(&run_dir).unwrap();
        let guest = GuestRoot::open(&root).unwrap();
        guest.ensure_file("/etc/machine-id", 0o644, b"").unwrap();
        guest.ensure_file("/etc/hostname", 0o644, b"scratch\n").unwrap();
        let netlink = netlink::Socket::open().unwrap();
        netlink.set_up(1).unwrap();
        netlink.apply_bridge("insbr0", [2, 0, 0, 0, 0, 1]).unwrap();
        let bridge = netlink.interface_index("insbr0").unwrap().unwrap();
        netlink.add_address(bridge, "10.99.0.1".parse().unwrap(), 24).unwrap();
        let program = MonitorProgram::load(Path::new(env!("CARGO_BIN_EXE_insula-monitor"))).unwrap();
        layout.ensure_root().unwrap(); // last: what fails before leaves no groups behind
        let start = 1_000_000 + u32::try_from(id.short() % 60_000).unwrap() * IdRange::DEFAULT_LENGTH;
        let limits = Limits {
            cpus: Some(CpuCount(1500)),
            cpu_weight: Some(50),
            memory: Some(ByteSize::mib(512)),
            swap: None,
            processes: Some(300),
            disk: None,
        };
        Self {
            id,
            directory: VpsDirectory::new(&run_dir, &id),
            ids: IdRange { start, length: IdRange::DEFAULT_LENGTH },
            layout,
            limits,
            features: Features::default(),
            host_devices: vec![],
            program,
            run_dir,
            root,
            scratch,
        }
    }

    /// From now on monitors are of an older version of the protocol, frozen.
    pub fn use_frozen_monitor(&mut self, version: u32) {
        self.program = MonitorProgram::load(&insula_testkit::binary("frozen-monitor")).unwrap();
        std::os::unix::fs::symlink(
            env!("CARGO_BIN_EXE_insula-monitor"),
            self.run_dir.join("present-monitor"),
        )
        .unwrap();
        fs::write(self.run_dir.join("frozen-version"), version.to_string()).unwrap();
    }

    pub fn plan(&self) -> StartPlan {
        plan_start(&StartInput {
            id: self.id,
            guest: GuestInput {
                hostname: "scratch",
                limits: &self.limits,
                features: &self.features,
                init: InitKind::Systemd,
                nics: vec![GuestNic {
                    name: "eth0".parse().unwrap(),
                    mac: MacAddress::of(&self.id, 0),
                    addresses: vec![("10.99.0.2".parse().unwrap(), 24)],
                    gateway: Some("10.99.0.1".parse().unwrap()),
                }],
                run_files: vec![RunFile {
                    path: "systemd/network/10-eth0.network".into(),
                    mode: 0o644,
                    contents: "[Match]\nName=eth0\n[Network]\nAddress=10.99.0.2/24\nGateway=10.99.0.1\n"
                        .into(),
                }],
                environment: vec![],
            },
            host: HostInput {
                ids: self.ids,
                root: RootPlan { upper: self.root.clone(), lower: vec![], has_shifted_ids: false },
                attachments: vec![Attachment::Bridged("insbr0".parse().unwrap())],
                devices: &self.host_devices,
                is_nested: false,
                layout: &self.layout,
                run_dir: &self.run_dir,
                policy: None,
                reboots: RebootPolicy::default(),
            },
            end: StartEnd::Boot,
        })
        .unwrap()
    }

    pub fn park(&self) -> ParkedMonitor {
        let config = MonitorConfig { program: &self.program, layout: &self.layout, run_dir: &self.run_dir };
        spawn_parked(&config).unwrap()
    }

    /// Starts the guest and waits until it is in the phase.
    pub fn start(&self, phase: Phase) -> (MonitorConnection, Status) {
        let connection = self.park().start(&self.plan()).unwrap();
        let status = wait_for_phase(&connection, phase);
        (connection, status)
    }

    pub fn connect(&self) -> MonitorConnection {
        MonitorConnection::connect(&self.directory.socket()).unwrap()
    }
}

impl ScratchHost {
    /// Connects when the guest is as wanted. Every change of its phase is told, so this waits for nothing else.
    pub fn connect_when(&self, is_as_wanted: impl Fn(&Status) -> bool) -> MonitorConnection {
        let connection = self.connect();
        let mut status = hello(&connection);
        while !is_as_wanted(&status) {
            match connection.receive(deadline()).expect("an event").0 {
                Event::Phase { status: changed } => status = changed,
                event => {
                    assert!(!matches!(event, Event::Exited { .. } | Event::StartFailed { .. }), "{event:?}")
                }
            }
        }
        connection
    }

    /// A client that only notices the monitor's end.
    pub fn watch_monitor(&self) -> MonitorWatch {
        MonitorWatch(self.connect())
    }

    /// How many interfaces of VPSes the host has.
    pub fn host_interfaces(&self) -> usize {
        let names = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        names.lines().filter(|line| line.trim_start().starts_with("ins") && !line.contains("insbr0")).count()
    }

    pub fn assert_no_interface(&self) {
        assert_eq!(self.host_interfaces(), 0);
    }

    /// Moves the guest's root to a file system in a file, and fills that to its last byte.
    pub fn move_root_to_full_file_system(&self, image: &Path) {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
        )
        .unwrap();
        File::create(image).unwrap().set_len(400 << 20).unwrap();
        let output =
            Program::new("mke2fs").args(["-q", "-t", "ext4", "-m", "0", "-d"]).arg(&self.root).arg(image);
        output.output().unwrap();
        fs::rename(&self.root, self.scratch.path().join("template")).unwrap();
        fs::create_dir(&self.root).unwrap();
        Program::new("mount").args(["-o", "loop"]).arg(image).arg(&self.root).output().unwrap();
        let mut file = File::create(self.root.join("ballast")).unwrap();
        let block = [0x5a_u8; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }
}

/// Tells when a monitor has ended.
pub struct MonitorWatch(MonitorConnection);

impl MonitorWatch {
    pub fn wait(self) {
        wait_for_close(&self.0);
    }
}

fn wait_for_close(connection: &MonitorConnection) {
    loop {
        match connection.receive(deadline()) {
            Ok(_) => {}
            Err(insula_runtime::ConnectionError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What the monitor says about its guest.
pub fn hello(connection: &MonitorConnection) -> Status {
    connection.send(&Request::Hello { version: 3 }, &[]).unwrap();
    loop {
        if let Event::Hello { status, .. } = connection.receive(deadline()).expect("an event").0 {
            return status;
        }
    }
}

/// The end of the guest, and of its monitor.
pub fn wait_for_end(connection: &MonitorConnection) -> ExitRecord {
    let record = loop {
        if let Event::Exited { record } = connection.receive(deadline()).expect("an event").0 {
            break record;
        }
    };
    wait_for_close(connection);
    record
}

/// The process that is the parent of the guest's init.
pub fn monitor_pid(connection: &MonitorConnection) -> i32 {
    let init = hello(connection).init_pid.unwrap();
    let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

impl Drop for ScratchHost {
    fn drop(&mut self) {
        // The guest first, then its monitor; then nothing may be left.
        let _ = self.layout.kill(&self.id);
        if let Ok(connection) = MonitorConnection::connect(&self.directory.socket()) {
            let _ = connection.send(&Request::Kill, &[]);
            while connection.receive(deadline()).is_ok() {}
        }
        let removed = self.layout.remove_groups(&self.id).and_then(|()| {
            self.layout.remove_spare_groups()?;
            self.layout.ensure_root_absent()
        });
        // The full file system of one test; elsewhere there is none, and the removal below finds no mount.
        let _ = rustix::mount::unmount(&self.root, rustix::mount::UnmountFlags::DETACH);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

pub fn wait_for_phase(connection: &MonitorConnection, phase: Phase) -> Status {
    loop {
        match connection.receive(deadline()).expect("an event").0 {
            Event::Phase { status } if status.phase == phase => return status,
            Event::StartFailed { failure } => panic!("{failure}"),
            Event::Exited { record } => panic!("{record:?}"),
            _ => {}
        }
    }
}

/// What a program in the guest wrote and how it ended.
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub end: ExecEnd,
}

pub fn request(argv: &[&str], terminal: Option<TerminalSize>) -> ExecRequest {
    ExecRequest {
        exec: 1,
        argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
        environment: vec!["HOME=/root".into()],
        directory: "/".into(),
        terminal,
    }
}

/// Runs a program in the guest, with nothing to read.
pub fn run(connection: &MonitorConnection, argv: &[&str]) -> Output {
    let null = File::open("/dev/null").unwrap();
    let mut outputs = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
    let fds = [null.as_fd(), outputs[0].as_fd(), outputs[1].as_fd()];
    connection.send(&Request::Exec(request(argv, None)), &fds).unwrap();
    let end = wait_for_exec_end(connection);
    let [stdout, stderr] = outputs.each_mut().map(|file| {
        use std::io::{Read, Seek};
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    });
    Output { stdout, stderr, end }
}

pub fn wait_for_exec_start(connection: &MonitorConnection) -> Vec<OwnedFd> {
    loop {
        match connection.receive(deadline()).expect("an event") {
            (Event::ExecStarted { .. }, fds) => return fds,
            (Event::ExecFailed { chain, .. }, _) => panic!("{chain:?}"),
            _ => {}
        }
    }
}

pub fn wait_for_exec_end(connection: &MonitorConnection) -> ExecEnd {
    loop {
        match connection.receive(deadline()).expect("an event").0 {
            Event::ExecExited { end, .. } => return end,
            Event::ExecFailed { chain, .. } => panic!("{chain:?}"),
            _ => {}
        }
    }
}
