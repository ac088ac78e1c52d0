//! Keys that may log in as root of a guest: authorized_keys, sshd(8). A guest may run meanwhile.

use crate::guest_root::{GuestRoot, GuestRootError};

const FILE: &str = "/root/.ssh/authorized_keys";

/// Nobody has so many keys.
const MAX_BYTES: u64 = 1 << 20;

/// Adds keys to root's authorized_keys and removes others from it. All else stays. Keys are lines without options. A line of
/// the guest with the same key and options counts as that key. Returns whether anything was changed. The file is replaced as
/// a whole: a change that the guest makes at the same moment is lost.
pub fn ensure_ssh_keys(root: &GuestRoot, add: &[String], remove: &[String]) -> Result<bool, GuestRootError> {
    match root.read_to_replace(FILE, MAX_BYTES)? {
        None if add.is_empty() => Ok(false),
        None => root.ensure_file(FILE, 0o600, (add.join("\n") + "\n").as_bytes()),
        Some(file) => match plan_lines(&file.contents, add, remove) {
            lines if lines == file.contents => Ok(false),
            lines => root.replace_file(FILE, &file, &lines).map(|()| true),
        },
    }
}

/// The file with the keys that are missing at its end, and without the lines of others.
fn plan_lines(contents: &[u8], add: &[String], remove: &[String]) -> Vec<u8> {
    let is_unwanted = |line: &[u8]| remove.iter().any(|key| has_key(line, key));
    let lines = contents.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_unwanted(line));
    let mut lines = lines.collect::<Vec<_>>().concat();
    for key in add {
        if lines.split(|byte| *byte == b'\n').any(|line| has_key(line, key)) {
            continue;
        }
        if lines.last().is_some_and(|last| *last != b'\n') {
            lines.push(b'\n');
        }
        lines.extend_from_slice(key.as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// Whether a line lets this key in: comments, of the key and of lines, don't count.
fn has_key(line: &[u8], key: &str) -> bool {
    let line = line.trim_ascii();
    let mut wanted = key.split_ascii_whitespace();
    let (Some(kind), Some(body)) = (wanted.next(), wanted.next()) else { return false };
    let words: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    !line.starts_with(b"#")
        && words.windows(2).any(|pair| pair[0] == kind.as_bytes() && pair[1] == body.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    const ONE: &str = "ssh-ed25519 AAAAone me@home";
    const TWO: &str = "ssh-ed25519 AAAAtwo";

    #[test]
    fn keys_come_and_go_and_all_else_stays() {
        let plan = |text: &str, add: &[&str], remove: &[&str]| {
            let owned = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
            String::from_utf8(plan_lines(text.as_bytes(), &owned(add), &owned(remove))).unwrap()
        };
        assert_eq!(plan("", &[ONE], &[]), format!("{ONE}\n"));
        assert_eq!(plan("# mine", &[ONE, TWO], &[]), format!("# mine\n{ONE}\n{TWO}\n"));
        let guests = "command=\"x y\" ssh-ed25519 AAAAone other\n\n  # ssh-ed25519 AAAAtwo\n";
        assert_eq!(plan(guests, &[ONE], &[]), guests);
        assert_eq!(plan(guests, &[TWO], &[ONE]), format!("\n  # ssh-ed25519 AAAAtwo\n{TWO}\n"));
        assert_eq!(plan("ssh-ed25519 AAAAonemore\n", &[], &[ONE]), "ssh-ed25519 AAAAonemore\n");
        assert_eq!(plan(&format!("{ONE}\n{ONE}"), &[], &[ONE]), "");
    }

    #[test]
    fn the_file_keeps_its_owner_and_is_written_once() {
        let scratch = tempfile::tempdir().unwrap();
        let guest = GuestRoot::open(scratch.path()).unwrap();
        let file = scratch.path().join("root/.ssh/authorized_keys");
        let ensure = |add: &[&str], remove: &[&str]| {
            let owned = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
            ensure_ssh_keys(&guest, &owned(add), &owned(remove))
        };
        assert!(!ensure(&[], &[ONE]).unwrap() && !file.exists());
        assert!(ensure(&[ONE], &[]).unwrap());
        assert!(!ensure(&[ONE], &[]).unwrap(), "it is there already");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        chown(&file, Some(5), Some(6)).expect("this test needs root");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(ensure(&[TWO], &[ONE]).unwrap());
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (5, 6, 0o640));
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{TWO}\n"));
    }

    #[test]
    fn links_and_pipes_are_no_files_of_keys() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, host) = (scratch.path().join("root"), scratch.path().join("host"));
        fs::create_dir_all(root.join("root/.ssh")).unwrap();
        fs::create_dir(&host).unwrap();
        fs::write(host.join("authorized_keys"), "host\n").unwrap();
        let guest = GuestRoot::open(&root).unwrap();
        let file = root.join("root/.ssh/authorized_keys");
        let add = || ensure_ssh_keys(&guest, &[ONE.to_owned()], &[]);
        symlink(host.join("authorized_keys"), &file).unwrap();
        assert!(matches!(add(), Err(GuestRootError::NotAFile { .. })));
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(add(), Err(GuestRootError::NotAFile { .. })));
        fs::remove_dir_all(root.join("root/.ssh")).unwrap();
        symlink(&host, root.join("root/.ssh")).unwrap();
        assert!(add().is_err());
        assert_eq!(fs::read_to_string(host.join("authorized_keys")).unwrap(), "host\n");
        assert_eq!(fs::read_dir(&host).unwrap().count(), 1);
    }
}
