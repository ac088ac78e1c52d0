//! Trees that are read and written, both ordinary ones and those that an attacker prepared.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use insula_files::{
    Entry, EntryKind, FileError, FileErrorKind, Item, OpenDescriptors, Place, Skip, Target, TreeWriter,
    WriteOptions, list, read,
};

const KEEP: WriteOptions =
    WriteOptions { keeps_owner: true, uid: None, gid: None, mode: None, mode_mask: 0o7777, ids: Some(65536) };

/// A tree to work in, beside a directory that nothing may reach.
struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let scratch = Self { directory: tempfile::tempdir().unwrap() };
        for name in ["from", "to", "host"] {
            fs::create_dir(scratch.path(name)).unwrap();
        }
        fs::write(scratch.path("host/secret"), "secret").unwrap();
        scratch
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn place(&self, name: &str) -> Place {
        Place::new(OwnedFd::from(fs::File::open(self.path(name)).unwrap()), OpenDescriptors::open().unwrap())
    }

    fn read(&self, path: &str, recursive: bool) -> Result<Vec<Item>, FileError> {
        let mut items = vec![];
        let name = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(".");
        read(&self.place("from"), path.as_bytes(), name.as_bytes(), recursive, &mut |item| {
            items.push(item);
            Ok(())
        })?;
        Ok(items)
    }

    fn write(&self, target: Target, options: WriteOptions, items: Vec<Item>) -> Result<u64, FileError> {
        let place = self.place("to");
        let mut writer = TreeWriter::open(&place, &target, options)?;
        items.into_iter().try_for_each(|item| writer.take(item))?;
        Ok(writer.finish()?.entries)
    }
}

fn into(path: &str) -> Target {
    Target { path: path.into(), is_directory: true, creates_directories: false }
}

fn onto(path: &str) -> Target {
    Target { is_directory: false, ..into(path) }
}

fn entry(path: &str, kind: EntryKind) -> Item {
    Item::Entry(Entry {
        path: path.into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        length: 0,
        modified_at_ms: 0,
        target: vec![],
    })
}

fn file(path: &str, contents: &str) -> Vec<Item> {
    let data = Item::Data { offset: 0, bytes: contents.into() };
    vec![entry(path, EntryKind::File), data, Item::End { length: contents.len() as u64 }]
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_tree_arrives_as_it_was() {
    let scratch = Scratch::new();
    let weird = [&b"new\nline"[..], b"\xff\xfe", b" ", b"-rf", &[b'n'; 255], b"...", "日本".as_bytes()];
    fs::create_dir_all(scratch.path("from/tree/a/b")).unwrap();
    for (number, name) in (0_u32..).zip(weird) {
        let path = scratch.path("from/tree/a").join(OsStr::from_bytes(name));
        fs::write(&path, vec![7; 300_000]).unwrap();
        chown(&path, Some(1000 + number), Some(2000)).expect("this test needs root");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4710)).unwrap();
    }
    fs::set_permissions(scratch.path("from/tree/a/b"), fs::Permissions::from_mode(0o1500)).unwrap();
    symlink("/no/such\n", scratch.path("from/tree/link")).unwrap();
    fs::write(scratch.path("from/tree/empty"), "").unwrap();
    let items = scratch.read("tree", true).unwrap();
    assert_eq!(scratch.write(into("/"), KEEP, items).unwrap(), 5 + weird.len() as u64);
    for (number, name) in (0_u32..).zip(weird) {
        let path = scratch.path("to/tree/a").join(OsStr::from_bytes(name));
        let metadata = fs::symlink_metadata(&path).unwrap();
        let shape = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.len());
        assert_eq!(shape, (0o4710, 1000 + number, 2000, 300_000), "{path:?}");
        assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 7));
    }
    assert_eq!(fs::metadata(scratch.path("to/tree/a/b")).unwrap().mode() & 0o7777, 0o1500);
    assert_eq!(fs::read_link(scratch.path("to/tree/link")).unwrap(), Path::new("/no/such\n"));
    assert_eq!(fs::metadata(scratch.path("to/tree/empty")).unwrap().len(), 0);
    assert_eq!(names(&scratch.path("to")), ["tree"]);
}

#[test]
fn holes_stay_holes() {
    const GIB: u64 = 1 << 30;
    let scratch = Scratch::new();
    let sparse = fs::File::create(scratch.path("from/sparse")).unwrap();
    sparse.write_all_at(b"middle", GIB).unwrap();
    sparse.set_len(3 * GIB).unwrap();
    let items = scratch.read("sparse", false).unwrap();
    assert!(items.len() < 10, "{} items", items.len());
    scratch.write(into("/"), KEEP, items).unwrap();
    let copy = fs::File::open(scratch.path("to/sparse")).unwrap();
    let metadata = copy.metadata().unwrap();
    assert_eq!(metadata.len(), 3 * GIB);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    let mut middle = [0; 8];
    copy.read_exact_at(&mut middle, GIB - 1).unwrap();
    assert_eq!(&middle, b"\0middle\0");
}

#[test]
fn pipes_sockets_and_devices_are_never_opened() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("from/tree")).unwrap();
    nix::unistd::mkfifo(&scratch.path("from/tree/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scratch.path("from/tree/socket")).unwrap();
    let device = nix::sys::stat::makedev(1, 5);
    let node = scratch.path("from/tree/device");
    nix::sys::stat::mknod(&node, nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::S_IRWXU, device)
        .expect("this test needs root");
    let mut skipped: Vec<_> = scratch.read("tree", true).unwrap();
    skipped.retain(|item| matches!(item, Item::Skipped { why: Skip::Kind(_), .. }));
    assert_eq!(skipped.len(), 3, "{skipped:?}");
    for name in ["tree/pipe", "tree/socket", "tree/device", "tree"] {
        assert_eq!(scratch.read(name, false).unwrap_err().kind, FileErrorKind::WrongKind, "{name}");
    }
    assert_eq!(scratch.read("none", true).unwrap_err().kind, FileErrorKind::NotFound);
    let mut listed = vec![];
    list(&scratch.place("from"), b"tree", &mut |item| {
        listed.push(item);
        Ok(())
    })
    .unwrap();
    assert_eq!(listed.len(), 3);
}

#[test]
fn links_lead_nowhere_out_of_the_place() {
    let scratch = Scratch::new();
    symlink(scratch.path("host"), scratch.path("from/out")).unwrap();
    symlink("../host", scratch.path("from/up")).unwrap();
    symlink("/proc/self/root", scratch.path("from/magic")).unwrap();
    for path in ["out/secret", "up/secret", "../host/secret", "magic/etc/passwd"] {
        assert_eq!(scratch.read(path, false).unwrap_err().kind, FileErrorKind::NotFound, "{path}");
    }
    symlink("/inside", scratch.path("from/absolute")).unwrap();
    fs::write(scratch.path("from/inside"), "inside").unwrap();
    assert_eq!(scratch.read("absolute", false).unwrap().len(), 3, "of the place's own root");

    symlink(scratch.path("host"), scratch.path("to/out")).unwrap();
    symlink(scratch.path("host/secret"), scratch.path("to/file")).unwrap();
    assert!(scratch.write(into("out"), KEEP, file("new", "x")).is_err());
    let through = [vec![entry("out", EntryKind::Directory)], file("out/new", "x")].concat();
    assert_eq!(scratch.write(into("/"), KEEP, through).unwrap_err().kind, FileErrorKind::WrongKind);
    scratch.write(into("/"), KEEP, file("file", "mine")).unwrap();
    assert_eq!(fs::read_to_string(scratch.path("to/file")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(scratch.path("host/secret")).unwrap(), "secret");
    assert_eq!(names(&scratch.path("host")), ["secret"]);
}

#[test]
fn a_stream_that_is_hostile_is_refused() {
    let scratch = Scratch::new();
    let begun = || vec![entry("f", EntryKind::File)];
    let data = |offset| Item::Data { offset, bytes: b"abc".to_vec() };
    let streams = [
        file("../x", "x"),
        file("/x", "x"),
        file("a/../../x", "x"),
        file("", "x"),
        vec![entry("s", EntryKind::Socket)],
        vec![entry("d", EntryKind::Device)],
        vec![data(0)],
        vec![Item::End { length: 0 }],
        [begun(), begun()].concat(),
        [begun(), vec![data(10), data(5)]].concat(),
        [begun(), vec![data(u64::MAX - 1)]].concat(),
        [begun(), vec![data(0), Item::End { length: 1 }]].concat(),
        begun(),
    ];
    for stream in streams {
        let shown = format!("{stream:?}");
        assert!(scratch.write(into("/"), KEEP, stream).is_err(), "{shown}");
        assert_eq!(names(&scratch.path("to")), [""; 0], "{shown}");
    }
    let mut foreign = entry("f", EntryKind::File);
    if let Item::Entry(entry) = &mut foreign {
        entry.uid = 65536;
    }
    assert_eq!(scratch.write(into("/"), KEEP, vec![foreign]).unwrap_err().kind, FileErrorKind::Invalid);
}

#[test]
fn targets_are_found_as_cp_finds_them() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("to/dir")).unwrap();
    fs::write(scratch.path("to/old"), "old").unwrap();
    let write = |target: Target| scratch.write(target, KEEP, file("f", "new"));
    let kind = |target| write(target).unwrap_err().kind;
    write(onto("/dir")).unwrap();
    write(onto("/name")).unwrap();
    write(onto("old")).unwrap();
    for path in ["to/dir/f", "to/name", "to/old"] {
        assert_eq!(fs::read_to_string(scratch.path(path)).unwrap(), "new", "{path}");
    }
    assert_eq!(kind(onto("/none/f")), FileErrorKind::NotFound);
    assert_eq!(kind(onto("/none/")), FileErrorKind::NotFound);
    assert_eq!(kind(into("/none")), FileErrorKind::NotFound);
    assert_eq!(kind(into("/old")), FileErrorKind::WrongKind);
    assert_eq!(kind(onto("/old/f")), FileErrorKind::WrongKind);
    fs::create_dir_all(scratch.path("to/dir/f2/full")).unwrap();
    let over = scratch.write(into("/dir"), KEEP, file("f2", "new")).unwrap_err();
    assert_eq!(over.kind, FileErrorKind::WrongKind, "{over}");
    let creating = |target| Target { creates_directories: true, ..target };
    write(creating(onto("/x/y/f3"))).unwrap();
    write(creating(into("/x/z"))).unwrap();
    assert_eq!(names(&scratch.path("to/x/y")), ["f3"]);
    assert_eq!(names(&scratch.path("to/x/z")), ["f"]);
    let two = [file("a", "1"), file("b", "2")].concat();
    assert!(scratch.write(onto("/single"), KEEP, two).is_err(), "two files have no one name");
    let nameless = scratch.write(onto("/dir"), KEEP, file(".", "x")).unwrap_err();
    assert_eq!(nameless.kind, FileErrorKind::WrongKind);
    let owned = WriteOptions { uid: Some(7), gid: Some(8), mode: Some(0o600), ..KEEP };
    scratch.write(onto("/owned"), owned, file("f", "x")).unwrap();
    let metadata = fs::metadata(scratch.path("to/owned")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (7, 8, 0o600));
}

#[test]
fn a_directory_that_is_there_keeps_its_owner() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("to/etc")).unwrap();
    chown(scratch.path("to/etc"), Some(5), Some(6)).expect("this test needs root");
    let stream = [vec![entry("etc", EntryKind::Directory)], file("etc/motd", "x")].concat();
    scratch.write(into("/"), KEEP, stream).unwrap();
    let metadata = fs::metadata(scratch.path("to/etc")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (5, 6));
}

#[test]
fn what_was_not_read_to_its_end_is_not_written() {
    let scratch = Scratch::new();
    let skip = Item::Skipped { path: b"f".to_vec(), why: Skip::Failed("gone".into()) };
    let begun = vec![entry("f", EntryKind::File), Item::Data { offset: 0, bytes: vec![1; 9] }, skip];
    assert_eq!(scratch.write(into("/"), KEEP, [begun, file("g", "x")].concat()).unwrap(), 1);
    assert_eq!(names(&scratch.path("to")), ["g"]);
}

#[test]
fn a_deep_tree_has_an_end() {
    let scratch = Scratch::new();
    let mut path = scratch.path("from/deep");
    fs::create_dir(&path).unwrap();
    for _ in 0..300 {
        path.push("d");
        fs::create_dir(&path).unwrap();
    }
    let items = scratch.read("deep", true).unwrap();
    assert!(matches!(items.last(), Some(Item::Skipped { why: Skip::TooDeep, .. })));
    assert_eq!(items.len(), 201);
}
