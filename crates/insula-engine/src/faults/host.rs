//! A host for one test, with guests that have next to nothing in them.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use insula_storage::Volume;
use insula_sys::program::Program;
use insula_types::{
    Architecture, ByteSize, Fingerprint, IdRange, ImageInfo, ImageRef, InitKind, Labels, Limits,
    OperationRecord, OperationState, Requester, Supervision,
};
use nix::sched::{CloneFlags, unshare};

use crate::{Asked, CreateVps, Engine, EngineError, PoolDriver, PoolSettings, Settings};

thread_local! {
    /// Whether hosts that are made from now on keep their pools in plain directories.
    pub(super) static HAS_PLAIN_POOL: Cell<bool> = const { Cell::new(false) };
}

/// A host for one test: a state directory, groups and a network namespace of its own.
pub(super) struct Host {
    directory: tempfile::TempDir,
    settings: Settings,
}

impl Host {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let name = format!("insula-faults-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let settings = Settings {
            state_dir: directory.path().join("state"),
            run_dir: directory.path().join("run"),
            cgroup_root: name,
            monitor: Some(monitor()),
            spare_monitors: 0,
            ids: IdRange { start: 1 << 20, length: 64 * IdRange::DEFAULT_LENGTH },
            pool: match HAS_PLAIN_POOL.get() {
                true => PoolSettings { driver: Some(PoolDriver::Dir), ..PoolSettings::default() },
                false => PoolSettings { size: Some(ByteSize::gib(1)), ..PoolSettings::default() },
            },
            ..Settings::default()
        };
        std::fs::create_dir_all(&settings.state_dir).unwrap();
        std::fs::create_dir_all(&settings.run_dir).unwrap();
        Self { directory, settings }
    }

    /// The file that says which host it is.
    pub(super) fn id_file(&self) -> PathBuf {
        self.settings.state_dir.join("host-id")
    }

    /// Runs an engine until `work` is done, and throws it away as a crash would.
    pub(super) fn with_engine<T>(&self, work: impl AsyncFnOnce(Engine) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(async {
            let engine = Engine::open(self.settings.clone()).await.map_err(|error| error.chain()).unwrap();
            work(engine).await
        });
        drop(runtime);
        result
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = self.settings.clone();
        let pools = runtime.block_on(async { Engine::open(settings).await?.teardown().await });
        drop(runtime);
        match pools {
            Ok(pools) => pools.into_iter().for_each(|pool| pool.close().unwrap()),
            Err(error) => {
                eprintln!("{} can't be taken down: {}", self.directory.path().display(), error.chain())
            }
        }
    }
}

/// An image with next to nothing in it.
async fn make_image(engine: &Engine, alias: &str, byte: u8) {
    let fingerprint = Fingerprint::from_bytes([byte; 32]);
    let staging = Volume::Staging(insula_types::OperationId::new());
    engine
        .pools
        .default()
        .work(move |pool| {
            pool.ensure_empty(&staging)?;
            let tree = pool.lasting_path(&staging);
            for directory in ["dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp"] {
                std::fs::create_dir(tree.join(directory)).unwrap();
            }
            std::fs::copy(init(), tree.join("sbin/init")).unwrap();
            std::fs::write(tree.join("etc/shadow"), "root:*:1::::::\n").unwrap();
            pool.seal(&staging, &Volume::Image(fingerprint))
        })
        .await
        .unwrap();
    let image = ImageInfo {
        fingerprint,
        pool: engine.pools.default().name().clone(),
        aliases: vec![alias.parse().unwrap()],
        description: String::new(),
        distribution: "none".to_owned(),
        release: "0".to_owned(),
        architecture: Architecture::NATIVE,
        init: InitKind::Systemd,
        size: ByteSize(0),
        definition: fingerprint,
        created_at: 0,
    };
    engine.images.keep(image).await.unwrap();
}

/// The monitor, which is built beside the tests.
fn monitor() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let monitor = tests.ancestors().nth(2).unwrap().join("insula-monitor");
    assert!(monitor.exists(), "{} is missing: cargo build --bins", monitor.display());
    monitor
}

/// The init of the guests: it says that it is ready, and ends when it is told to.
fn init() -> &'static Path {
    static INIT: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("init");
        let compile = Program::new("cc").args(["-static", "-x", "c", "-o"]).arg(&path).arg("-");
        compile.input(include_str!("init.c")).output().expect("a C compiler and a static libc");
        (directory, path)
    });
    &INIT.1
}

pub(super) fn create_request(name: &str) -> CreateVps {
    CreateVps {
        name: name.parse().unwrap(),
        image: ImageRef::Alias("tiny".parse().unwrap()),
        profile: HAS_PLAIN_POOL.get().then(|| "unlimited".parse().unwrap()),
        limits: Limits { disk: (!HAS_PLAIN_POOL.get()).then_some(ByteSize::mib(256)), ..Limits::default() },
        features: None,
        hostname: None,
        networks: vec![],
        addresses: vec![],
        ssh_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ".to_owned()],
        start: false,
        wait_ready: false,
        tenant: None,
        labels: Labels::default(),
        password: Some("secret".to_owned()),
        delete_protection: false,
        supervision: Supervision::default(),
    }
}

pub(super) fn asked() -> Asked {
    Asked::by(Requester::root())
}

/// What is there before: two images, the VPS `old` with the snapshot `one` of a root without the file `later`, `live`, which
/// runs, `held`, which ran and is suspended, and `gone`, which is in the trash.
pub(super) async fn prepare(engine: &Engine) {
    make_image(engine, "tiny", 7).await;
    make_image(engine, "other", 8).await;
    for name in ["old", "live", "held", "gone"] {
        done(engine, engine.create_vps(&asked(), create_request(name)).await).await;
    }
    let old = engine.vps("old").unwrap();
    done(engine, engine.create_snapshot(&asked(), &old, Some("one".parse().unwrap())).await).await;
    std::fs::write(root_of(engine, "old").join("later"), "").unwrap();
    for name in ["live", "held"] {
        done(engine, engine.start_vps(&asked(), &engine.vps(name).unwrap(), true, false).await).await;
    }
    let held = engine.vps("held").unwrap();
    done(engine, engine.suspend_vps(&asked(), &held, "unpaid".to_owned(), true, None).await).await;
    let gone = engine.vps("gone").unwrap();
    done(engine, engine.delete_vps(&asked(), &gone, false, false).await).await;
}

pub(super) async fn done(engine: &Engine, begun: Result<OperationRecord, EngineError>) {
    let record = begun.map_err(|error| error.chain()).unwrap();
    let record = engine.wait_operation(record.id, None).await.unwrap();
    assert_eq!(record.state, OperationState::Succeeded, "{:?}", record.error);
}

pub(super) fn root_of(engine: &Engine, vps: &str) -> std::path::PathBuf {
    let handle = engine.vps(vps).unwrap();
    engine.pools.of(&handle.spec()).unwrap().driver().lasting_path(&Volume::Root(handle.id))
}
