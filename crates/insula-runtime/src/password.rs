//! Passwords of a guest's users, set from the host: shadow(5), crypt(5). A guest may run meanwhile.

use insula_sys::clock::now_ms;
use rustix::rand::{GetRandomFlags, getrandom};
use sha_crypt::{Sha512Params, sha512_crypt_b64};

use crate::guest_root::{GuestRoot, GuestRootError};

/// The most characters of a password.
pub const MAX_PASSWORD_LENGTH: usize = 256;

const SHADOW: &str = "/etc/shadow";

/// No guest has so many users.
const MAX_SHADOW_BYTES: u64 = 1 << 20;

/// Why a password can't be set. No message has the password or its hash.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too short or too long.
    #[error("the password has {length} characters: it must have 1 to {MAX_PASSWORD_LENGTH}")]
    Length {
        /// The number of characters.
        length: usize,
    },
    /// The password has a character that can't be typed at a prompt.
    #[error("the password has control characters, such as a line feed")]
    ControlCharacter,
    /// The kernel gave no random bytes for the salt.
    #[error("failed to choose a salt for the password")]
    Salt(#[source] std::io::Error),
    /// The hash would break the file.
    #[error("the password's hash is not one of crypt(5)")]
    Hash,
    /// The guest has no such user.
    #[error("the guest has no user {user:?}")]
    NoSuchUser {
        /// The user.
        user: String,
    },
    /// The guest's file can't be read or written.
    #[error(transparent)]
    File(#[from] GuestRootError),
}

/// Hashes a password of 1 to [`MAX_PASSWORD_LENGTH`] characters, none of them a control character: `$6$<salt>$<hash>`,
/// SHA-512 crypt with a random salt of 16 characters and 5,000 rounds, which every libc understands. Takes milliseconds.
pub fn hash_password(password: &str) -> Result<String, PasswordError> {
    check_password(password)?;
    crypt(password, &choose_salt()?)
}

/// Sets the password of a user in a guest's `/etc/shadow`, and the day of its last change; all else stays. The file is
/// replaced as a whole. A change that the guest makes at the same moment is lost: its lock file is the guest's to hold, so
/// it is not waited for.
///
/// `hash` comes from [`hash_password`]; `*` and `!` are other things that may stand there, see shadow(5).
pub fn set_password(root: &GuestRoot, user: &str, hash: &str) -> Result<(), PasswordError> {
    let is_harmless = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    if hash.is_empty() || !hash.bytes().all(is_harmless) {
        return Err(PasswordError::Hash);
    }
    let no_such_user = || PasswordError::NoSuchUser { user: user.to_owned() };
    let file = root.read_to_replace(SHADOW, MAX_SHADOW_BYTES)?.ok_or_else(no_such_user)?;
    let contents = replace_hash(&file.contents, user, hash, today()).ok_or_else(no_such_user)?;
    Ok(root.replace_file(SHADOW, &file, &contents)?)
}

fn check_password(password: &str) -> Result<(), PasswordError> {
    match password.chars().count() {
        1..=MAX_PASSWORD_LENGTH if password.chars().any(char::is_control) => {
            Err(PasswordError::ControlCharacter)
        }
        1..=MAX_PASSWORD_LENGTH => Ok(()),
        length => Err(PasswordError::Length { length }),
    }
}

/// 96 random bits in the 64 characters of crypt(5).
fn choose_salt() -> Result<String, PasswordError> {
    const CHARACTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut random = [0_u8; 16];
    // As few bytes come whole or not at all: getrandom(2).
    getrandom(&mut random, GetRandomFlags::empty()).map_err(|errno| PasswordError::Salt(errno.into()))?;
    Ok(random.iter().map(|byte| char::from(CHARACTERS[usize::from(byte % 64)])).collect())
}

fn crypt(password: &str, salt: &str) -> Result<String, PasswordError> {
    let hash = sha512_crypt_b64(password.as_bytes(), salt.as_bytes(), &Sha512Params::default());
    Ok(format!("$6${salt}${}", hash.map_err(|_| PasswordError::Hash)?))
}

/// Days since 1970.
fn today() -> u64 {
    now_ms().unsigned_abs() / (24 * 60 * 60 * 1000)
}

/// The file with another hash and day in the user's first line, which is the one that counts; `None` if there is none.
fn replace_hash(shadow: &[u8], user: &str, hash: &str, day: u64) -> Option<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = shadow.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let is_users = |line: &&mut Vec<u8>| {
        !user.is_empty()
            && line.contains(&b':')
            && line.split(|byte| *byte == b':').next() == Some(user.as_bytes())
    };
    let line = lines.iter_mut().find(is_users)?;
    let day = day.to_string();
    let mut fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    for (field, value) in fields.iter_mut().skip(1).zip([hash.as_bytes(), day.as_bytes()]) {
        *field = value;
    }
    *line = fields.join(&b':');
    Some(lines.join(&b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    const SHADOW_TEXT: &str = "daemon:*:19000:0:99999:7:::\nroot:!:19001:0:99999:7::1:\n\nrooty:*:1::::::\nodd\nroot:second:1::::::";

    #[test]
    fn the_hash_is_that_of_crypt() {
        // Drepper's specification, "Unix crypt using SHA-256 and SHA-512", has this.
        assert_eq!(
            crypt("Hello world!", "saltstring").unwrap(),
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
        );
        let (one, other) = (hash_password("same").unwrap(), hash_password("same").unwrap());
        assert_ne!(one, other);
        let salt = one.split('$').nth(2).unwrap();
        assert_eq!((one.len(), salt.len()), (3 + 16 + 1 + 86, 16));
        assert_eq!(crypt("same", salt).unwrap(), one);
    }

    #[test]
    fn a_password_that_nobody_can_type_is_refused() {
        assert!(matches!(hash_password(""), Err(PasswordError::Length { length: 0 })));
        assert!(matches!(hash_password(&"ä".repeat(257)), Err(PasswordError::Length { length: 257 })));
        for control in ["a\nb", "a\0", "\x1b", "\u{85}"] {
            assert!(matches!(hash_password(control), Err(PasswordError::ControlCharacter)), "{control:?}");
        }
        for good in ["a", "päss: wörd$", &"ä".repeat(256)] {
            assert!(hash_password(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn one_line_is_changed_and_no_other_byte() {
        let replaced = |user| {
            let shadow = replace_hash(SHADOW_TEXT.as_bytes(), user, "$6$s$h", 20_000);
            shadow.map(|shadow| String::from_utf8(shadow).unwrap())
        };
        let expected = SHADOW_TEXT.replace("root:!:19001:", "root:$6$s$h:20000:");
        assert_eq!(replaced("root"), Some(expected));
        for nobody in ["", "roo", "odd", "second", "root:!", "rooty:*:1"] {
            assert!(
                replaced(nobody).is_none_or(|text| nobody.contains(':') && text != SHADOW_TEXT),
                "{nobody}"
            );
        }
        assert_eq!(replace_hash(b"a:b\n", "a", "c", 1).unwrap(), b"a:c\n");
        assert_eq!(replace_hash(b"\xff:x:\na:b:", "a", "c", 1).unwrap(), b"\xff:x:\na:c:1");
    }

    proptest::proptest! {
        #[test]
        fn all_but_two_fields_stay(shadow in "([a-c]{0,2}(:[a-c!*$]{0,2}){0,9}\n){0,9}", user in "[a-c]{1,2}") {
            let before: Vec<&str> = shadow.lines().collect();
            let after = replace_hash(shadow.as_bytes(), &user, "HASH", 7).map(|text| String::from_utf8(text).unwrap());
            let is_users = |line: &&str| line.starts_with(&format!("{user}:"));
            proptest::prop_assert_eq!(after.is_some(), before.iter().any(is_users));
            let Some(after) = after else { return Ok(()) };
            let after: Vec<&str> = after.lines().collect();
            proptest::prop_assert_eq!(after.len(), before.len());
            let changed: Vec<_> = (0..before.len()).filter(|&line| before[line] != after[line]).collect();
            proptest::prop_assert_eq!(&changed, &[before.iter().position(is_users).unwrap()]);
            let fields = |line: &str| line.split(':').map(str::to_owned).enumerate().collect::<Vec<_>>();
            for ((number, before), (_, after)) in fields(before[changed[0]]).into_iter().zip(fields(after[changed[0]])) {
                let expected = match number { 1 => "HASH", 2 => "7", _ => &before };
                proptest::prop_assert_eq!(after, expected);
            }
        }
    }

    fn scratch() -> (tempfile::TempDir, PathBuf, GuestRoot) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        let guest = GuestRoot::open(&root).unwrap();
        (scratch, root.join("etc/shadow"), guest)
    }

    #[test]
    fn owner_and_permissions_stay() {
        let (_scratch, shadow, guest) = scratch();
        fs::write(&shadow, SHADOW_TEXT).unwrap();
        fs::set_permissions(&shadow, fs::Permissions::from_mode(0o640)).unwrap();
        chown(&shadow, Some(0), Some(42)).expect("this test needs root");
        set_password(&guest, "root", "$6$salt$hash").unwrap();
        let text = fs::read_to_string(&shadow).unwrap();
        assert!(text.contains(&format!("root:$6$salt$hash:{}:0:", today())), "{text}");
        let metadata = fs::metadata(&shadow).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, 0, 42));
        assert_eq!(fs::read_dir(shadow.parent().unwrap()).unwrap().count(), 1);
        assert!(matches!(set_password(&guest, "nobody", "x"), Err(PasswordError::NoSuchUser { .. })));
        for hash in ["", "a:b", "a\nb", "a b"] {
            assert!(matches!(set_password(&guest, "root", hash), Err(PasswordError::Hash)), "{hash:?}");
        }
        assert_eq!(fs::read_to_string(&shadow).unwrap(), text);
    }

    #[test]
    fn a_hostile_file_neither_hangs_nor_leads_away() {
        let (scratch, shadow, guest) = scratch();
        let set = || set_password(&guest, "root", "$6$salt$hash").unwrap_err();
        assert!(matches!(set(), PasswordError::NoSuchUser { .. }));
        let not_a_file = |error| matches!(error, PasswordError::File(GuestRootError::NotAFile { .. }));
        nix::unistd::mkfifo(&shadow, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(not_a_file(set()));
        fs::remove_file(&shadow).unwrap();
        let host = scratch.path().join("shadow");
        fs::write(&host, SHADOW_TEXT).unwrap();
        for target in [host.to_str().unwrap(), "../../shadow", "/etc/other"] {
            symlink(target, &shadow).unwrap();
            assert!(not_a_file(set()), "{target}");
            fs::remove_file(&shadow).unwrap();
        }
        assert_eq!(fs::read_to_string(&host).unwrap(), SHADOW_TEXT);
        fs::File::create(&shadow).unwrap().set_len(MAX_SHADOW_BYTES + 1).unwrap();
        assert!(matches!(set(), PasswordError::File(GuestRootError::TooLarge { .. })));
        fs::remove_file(&shadow).unwrap();
        fs::create_dir(&shadow).unwrap();
        assert!(not_a_file(set()));
    }
}
