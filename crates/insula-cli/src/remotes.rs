//! Remote agents: their addresses, and our certificates for them.
//!
//! ```text
//! $INSULA_CONFIG_DIR, else $XDG_CONFIG_HOME/insula, else ~/.config/insula
//! └─ remotes/NAME/      one for each agent; for its owner only
//!    ├─ url             https://HOST:PORT
//!    ├─ ca.pem          the agent's CA
//!    ├─ client.pem      our certificate; replaced when less than a third of its life is left
//!    └─ client.key      its private key; made here, never sent anywhere
//! ```
//!
//! A remote appears and changes atomically: a command that runs at the same time sees the old or the new state.

use insula_api::v1::RenewCertificateRequest;
use insula_api::{ApiError, Client, Endpoint, Reason};
use rcgen::{CertificateParams, KeyPair};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tonic::transport::Uri;

use crate::failure::{ENROLL_AGAIN, Failure, Outcome};
use crate::remotes::validity::Validity;

mod validity;

/// The remotes of this user.
pub struct Remotes {
    directory: PathBuf,
}

/// What is needed to use a remote agent.
pub struct Credentials {
    /// `HOST:PORT`.
    pub authority: String,
    /// The agent's CA, in PEM.
    pub ca_pem: String,
    /// Our certificate, in PEM.
    pub certificate_pem: String,
    /// Its private key, in PEM.
    pub key_pem: String,
}

impl Remotes {
    /// Finds the directory of the remotes. It need not exist.
    pub fn open() -> Outcome<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = variable("INSULA_CONFIG_DIR")
            .or_else(|| variable("XDG_CONFIG_HOME").map(|directory| directory.join("insula")))
            .or_else(|| variable("HOME").map(|home| home.join(".config/insula")));
        let directory = directory
            .ok_or_else(|| Failure::usage("no directory for remotes: set INSULA_CONFIG_DIR or HOME"))?;
        Ok(Self { directory: directory.join("remotes") })
    }

    /// All of them, by name.
    pub fn all(&self) -> Outcome<Vec<Remote>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            entries => entries.map_err(|error| unreadable(&self.directory, &error))?,
        };
        let mut remotes = vec![];
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&self.directory, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if check_name(&name).is_ok() {
                remotes.push(Remote::open(name, entry.path())?);
            }
        }
        remotes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(remotes)
    }

    /// The remote of this name, or else of this URL.
    pub fn find(&self, host: &str) -> Outcome<Remote> {
        let directory = self.directory.join(host);
        if check_name(host).is_ok() && directory.is_dir() {
            return Remote::open(host.to_owned(), directory);
        }
        let authority = authority(host).ok();
        let found = self.all()?.into_iter().find(|remote| Some(&remote.authority) == authority.as_ref());
        found.ok_or_else(|| {
            let error = ApiError::new(Reason::InvalidArgument, format!("there is no remote {host:?}"));
            error.with_hint("list them: insula remote list; to add one: insula remote add NAME URL").into()
        })
    }

    /// Refuses an invalid name, and one that another remote has.
    pub fn check_free(&self, name: &str) -> Outcome {
        check_name(name).map_err(Failure::usage)?;
        if self.directory.join(name).exists() { Err(exists(name)) } else { Ok(()) }
    }

    /// Adds a remote.
    pub fn add(&self, name: &str, credentials: &Credentials) -> Outcome {
        let shown = self.directory.display();
        let failed = |error: io::Error| Failure::io(format!("failed to write a remote to {shown}"), &error);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed)?;
        // For its owner only. It is removed if a step fails.
        let new = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&self.directory)
            .map_err(failed)?;
        write(new.path(), "url", &format!("https://{}\n", credentials.authority)).map_err(failed)?;
        write(new.path(), "ca.pem", &credentials.ca_pem).map_err(failed)?;
        write(new.path(), "client.pem", &credentials.certificate_pem).map_err(failed)?;
        write(new.path(), "client.key", &credentials.key_pem).map_err(failed)?;
        let place = self.directory.join(name);
        match renameat_with(CWD, new.path(), CWD, &place, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => return Err(exists(name)),
            renamed => renamed.map_err(|errno| failed(errno.into()))?,
        }
        let _ = new.keep(); // it has another name now
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

fn exists(name: &str) -> Failure {
    let error = ApiError::new(Reason::ClientExists, format!("a remote {name} already exists"));
    error.with_hint(format!("choose another name, or remove it first: insula remote remove {name}")).into()
}

/// Writes a file, for its owner only, in one step.
fn write(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(directory.join(name))?;
    Ok(())
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("failed to read {}", path.display()), error)
}

/// Checks the name of a remote, which becomes a directory below ours.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_name = (1..=63).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_plain);
    let rule =
        "1 to 63 letters, digits, hyphens, underscores and dots are allowed, and no dot at the beginning";
    if is_name { Ok(()) } else { Err(format!("invalid name of a remote {name:?}: {rule}")) }
}

/// `HOST:PORT` out of `https://HOST:PORT`, where the scheme and the port may be left out.
pub fn authority(url: &str) -> Result<String, String> {
    let wrong = |rule: &str| format!("invalid URL {url:?}: {rule}");
    let whole = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let uri: Uri = whole.parse().map_err(|_| wrong("expected the form https://host:port"))?;
    let (host, rest) =
        (uri.host().unwrap_or_default(), uri.path_and_query().map_or("", |rest| rest.as_str()));
    let port = uri.port_u16().unwrap_or(insula_api::client::DEFAULT_PORT);
    let named = uri.authority().map_or("", |authority| authority.as_str());
    match uri.scheme_str() {
        Some("https") if host.is_empty() => Err(wrong("it names no host")),
        Some("https") if !matches!(rest, "" | "/") => Err(wrong("it must end with the port")),
        Some("https") if named != host && named != format!("{host}:{port}") => {
            Err(wrong("it must have nothing but a host and a port from 1 to 65535"))
        }
        Some("https") => Ok(format!("{}:{port}", host.to_ascii_lowercase())),
        _ => Err(wrong("it must begin with https://")),
    }
}

/// A remote agent.
pub struct Remote {
    /// Its name here.
    pub name: String,
    /// `HOST:PORT`.
    pub authority: String,
    directory: PathBuf,
}

impl Remote {
    fn open(name: String, directory: PathBuf) -> Outcome<Self> {
        let file = directory.join("url");
        let url = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
        let authority = authority(url.trim());
        let authority = authority.map_err(|rule| Failure::usage(format!("{}: {rule}", file.display())))?;
        Ok(Self { name, authority, directory })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://{}", self.authority)
    }

    /// When our certificate expires, in seconds since 1970, UTC.
    pub fn expires_at(&self) -> Outcome<i64> {
        Ok(self.validity(&self.read("client.pem")?)?.not_after)
    }

    /// Removes the remote, with our certificate.
    pub fn remove(&self) -> Outcome {
        let shown = self.directory.display();
        let removed = std::fs::remove_dir_all(&self.directory);
        removed.map_err(|error| Failure::io(format!("failed to remove {shown}"), &error))
    }

    /// Connects, and renews our certificate if it is old. If only the renewal fails, the second result has the error.
    pub async fn connect(&self) -> Outcome<(Client, Outcome)> {
        let certificate_pem = self.read("client.pem")?;
        let validity = self.validity(&certificate_pem)?;
        if validity.is_over() {
            return Err(self.expired());
        }
        let key_pem = self.read("client.key")?;
        let endpoint = Endpoint::Remote {
            authority: self.authority.clone(),
            ca_pem: self.read("ca.pem")?,
            certificate_pem,
            key_pem: key_pem.clone(),
        };
        let client = Client::connect(endpoint).await?;
        let renewed = if validity.is_old() { self.renew(&client, &key_pem).await } else { Ok(()) };
        Ok((client, renewed))
    }

    /// Gets a new certificate for the same key, so that only one file changes.
    async fn renew(&self, client: &Client, key_pem: &str) -> Outcome {
        let key = KeyPair::from_pem(key_pem).map_err(|error| unusable(&self.directory, &error))?;
        let request = RenewCertificateRequest { certificate_request: certificate_request(&key)? };
        let answer = client.access().renew_certificate(request).await?.into_inner();
        let written = write(&self.directory, "client.pem", &answer.certificate);
        let shown = self.directory.display();
        written.map_err(|error| Failure::io(format!("failed to write a certificate to {shown}"), &error))
    }

    fn expired(&self) -> Failure {
        let message = format!("the certificate for {} has expired", self.name);
        ApiError::new(Reason::Unauthenticated, message).with_hint(ENROLL_AGAIN).into()
    }

    fn validity(&self, certificate_pem: &str) -> Outcome<Validity> {
        Validity::of(certificate_pem).map_err(|error| unusable(&self.directory, &*error))
    }

    fn read(&self, name: &str) -> Outcome<String> {
        let file = self.directory.join(name);
        std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))
    }
}

fn unusable(directory: &Path, error: &dyn std::error::Error) -> Failure {
    let error = ApiError::new(Reason::InvalidArgument, format!("failed to use {}", directory.display()))
        .with_causes([error.to_string()]);
    error.with_hint(ENROLL_AGAIN).into()
}

/// A certificate signing request (PKCS #10) in PEM. It names nobody: the token or our certificate identifies us.
pub fn certificate_request(key: &KeyPair) -> Outcome<String> {
    let request = CertificateParams::default().serialize_request(key).and_then(|request| request.pem());
    request.map_err(|error| {
        let message = "failed to make a certificate signing request";
        ApiError::new(Reason::Internal, message).with_causes([error.to_string()]).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_one_form() {
        for (url, form) in [
            ("https://vps1.example.org:9000", "vps1.example.org:9000"),
            ("https://VPS1.example.org/", "vps1.example.org:8443"),
            ("192.0.2.1", "192.0.2.1:8443"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ] {
            assert_eq!(authority(url).as_deref(), Ok(form), "{url}");
        }
        for url in [
            "http://a:1",
            "https://a/b",
            "https://a?b",
            "",
            "a b",
            "https://",
            "unix:///run/x",
            "a:99999",
            "me@a",
        ] {
            assert!(authority(url).unwrap_err().contains(&format!("{url:?}")), "{url}");
        }
    }

    #[test]
    fn a_name_is_one_directory_of_ours() {
        assert!(["prod", "vps1.example.org", "A_1"].iter().all(|name| check_name(name).is_ok()));
        for name in ["", ".", "..", ".new-1", "a/b", "a b", "é", &"a".repeat(64)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    fn remotes() -> (tempfile::TempDir, Remotes) {
        let directory = tempfile::tempdir().unwrap();
        let remotes = Remotes { directory: directory.path().join("insula/remotes") };
        (directory, remotes)
    }

    fn credentials() -> Credentials {
        let [ca_pem, certificate_pem, key_pem] = ["ca", "certificate", "key"].map(str::to_owned);
        Credentials { authority: "a.example:8443".into(), ca_pem, certificate_pem, key_pem }
    }

    #[test]
    fn a_remote_is_found_by_name_and_by_url() {
        let (_directory, remotes) = remotes();
        assert!(remotes.all().unwrap().is_empty());
        remotes.add("prod", &credentials()).unwrap();
        for host in ["prod", "a.example", "https://A.example:8443/"] {
            assert_eq!(remotes.find(host).unwrap().name, "prod", "{host}");
        }
        for host in ["nope", "../remotes/prod", "a.example:1", ""] {
            assert_eq!(remotes.find(host).err().unwrap().exit_code(), 2, "{host}");
        }
        assert_eq!(remotes.check_free("prod").unwrap_err().exit_code(), 4);
        assert_eq!(remotes.add("prod", &credentials()).unwrap_err().exit_code(), 4);
        remotes.find("prod").unwrap().remove().unwrap();
        remotes.check_free("prod").unwrap();
        assert_eq!(std::fs::read_dir(&remotes.directory).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn only_its_owner_can_read_it() {
        let (_directory, remotes) = remotes();
        remotes.add("prod", &credentials()).unwrap();
        let place = remotes.directory.join("prod");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&remotes.directory), mode(&place)), (0o700, 0o700));
        for (file, text) in [
            ("url", "https://a.example:8443\n"),
            ("ca.pem", "ca"),
            ("client.pem", "certificate"),
            ("client.key", "key"),
        ] {
            assert_eq!(std::fs::read_to_string(place.join(file)).unwrap(), text);
            assert_eq!(mode(&place.join(file)), 0o600);
        }
    }
}
