//! What is wrong with a request by itself, and the errors that several requests share.

use insula_types::{Reason, SnapshotName, VpsName};

use crate::EngineError;

/// RFC 1123 section 2.1: labels of letters, digits and hyphens; at most 64 bytes in all, `HOST_NAME_MAX` of Linux.
pub(crate) fn check_hostname(text: &str) -> Result<String, EngineError> {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match text.len() <= 64 && text.split('.').all(label) {
        true => Ok(text.to_owned()),
        false => {
            let shown: String = text.chars().take(80).collect();
            let rule = "expected labels of letters, digits and hyphens with dots between them, 64 characters at most";
            Err(EngineError::invalid("hostname", format!("invalid host name {shown:?}: {rule}")))
        }
    }
}

/// One line of authorized_keys (sshd(8)) without options: a type, the key, perhaps a comment.
pub(crate) fn check_ssh_key(text: &str) -> Result<String, EngineError> {
    const KINDS: [&str; 4] = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];
    let key = text.trim();
    let mut words = key.split(' ');
    let kind = words.next().is_some_and(|kind| KINDS.iter().any(|known| kind.starts_with(known)));
    let body = words.next().is_some_and(|body| {
        body.len() >= 16 && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
    });
    match kind && body && key.len() <= 16_384 && !key.contains(char::is_control) {
        true => Ok(key.to_owned()),
        false if key.contains("PRIVATE KEY") => Err(EngineError::invalid(
            "ssh_keys",
            "this is a private key; keep it, and use the file that ends in .pub",
        )),
        false => Err(EngineError::invalid("ssh_keys", "not a public key in the form of authorized_keys")
            .hint("expected a line such as: ssh-ed25519 AAAA… comment")),
    }
}

/// The error for a VPS's name that is taken.
pub(crate) fn name_taken(name: &VpsName) -> EngineError {
    EngineError::new(Reason::VpsExists, format!("a VPS {:?} already exists", name.as_str()))
        .hint("choose another name, or delete it")
}

/// The error for a snapshot's name that is taken.
pub(crate) fn snapshot_taken(name: &SnapshotName) -> EngineError {
    EngineError::new(Reason::SnapshotExists, format!("a snapshot {:?} already exists", name.as_str()))
        .hint("choose another name, or delete it")
}

/// Names for a hint.
pub(crate) fn list<T: std::fmt::Display>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_labels_with_dots() {
        for good in ["web1", "web1.example.com", "A-1"] {
            assert!(check_hostname(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a-", "a b", "a\nb", "a_b", &"a".repeat(65)] {
            assert!(check_hostname(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_public_and_one_line() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ admin@example";
        assert_eq!(check_ssh_key(&format!(" {key}\n")).unwrap(), key);
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn";
        assert!(check_ssh_key(private).unwrap_err().to_string().contains("private"));
        for bad in
            ["", "ssh-ed25519", "ssh-ed25519 short", "command=\"x\" ssh-rsa AAAA", &format!("{key}\n{key}")]
        {
            assert!(check_ssh_key(bad).is_err(), "{bad}");
        }
    }
}
