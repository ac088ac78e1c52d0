//! The agent's own certificate authority.
//!
//! The CA's certificate and key are in `<state_dir>/pki/`, and are created when they are first
//! needed: `ca.pem`, which is public, and `ca.key`, which is secret. The CA issues certificates for
//! this agent alone: for its server, whose keys are never on disk, and for its clients, whose keys
//! it never sees.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use insula_types::{ClientCertificate, ClientRecord};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

/// How long the CA's certificate is valid.
const AUTHORITY_LIFE: Duration = days(20 * 365);
/// How long a certificate of the server is valid.
pub const SERVER_LIFE: Duration = days(90);
/// The maximum size of a certificate request, which is more than any needs.
const MAX_REQUEST_BYTES: usize = 16 << 10;
/// How far in the past the validity of certificates begins, for clients whose clocks are slow.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

/// Why the CA can't be used, or can't issue a certificate.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file can't be read or written.
    #[error("failed to {doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// A file does not have the content that it must have.
    #[error("failed to use {} as the CA's: it is damaged, or does not belong to the other file; restore both from a backup", path.display())]
    Damaged {
        /// The path of the file.
        path: PathBuf,
    },
    /// A certificate can't be issued.
    #[error("failed to make a certificate for {subject}")]
    Issue {
        /// The subject of the certificate.
        subject: String,
        /// The error of the library.
        #[source]
        source: rcgen::Error,
    },
    /// The server's key can't be used.
    #[error("failed to use the server's new key")]
    Key(#[source] rustls::Error),
}

/// A client's request for a certificate. It proves that the client has a key pair, and says which.
#[derive(Debug)]
pub struct CertificateRequest {
    request: CertificateSigningRequestParams,
}

impl CertificateRequest {
    /// Parses PKCS #10 in PEM, and checks that the sender has the private key. The error is meant
    /// for the sender.
    pub fn parse(pem: &str) -> Result<Self, String> {
        if pem.len() > MAX_REQUEST_BYTES {
            return Err(format!("it is longer than {MAX_REQUEST_BYTES} bytes"));
        }
        let request = CertificateSigningRequestParams::from_pem(pem).map_err(|error| error.to_string())?;
        // The algorithm of the signature must be that of the key, so its name serves for both.
        let key = &request.public_key;
        let expected = match key.algorithm() {
            algorithm if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 => Some(65),
            algorithm if *algorithm == rcgen::PKCS_ECDSA_P384_SHA384 => Some(97),
            _ => None,
        };
        match expected.is_none_or(|length| key.der_bytes().len() == length) {
            true => Ok(Self { request }),
            false => Err("the signature's hash must have the size of the key's curve".to_owned()),
        }
    }

    /// SHA-256 of the public key, in hexadecimal digits.
    pub fn key_fingerprint(&self) -> String {
        format!("{:x}", Sha256::digest(self.request.public_key.subject_public_key_info()))
    }
}

/// The agent's certificate authority.
pub struct Authority {
    pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("sha256", &fingerprint(&self.certificate)).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the CA in this directory, and creates it if there is none.
    pub fn open(directory: &Path, host: &str) -> Result<Self, PkiError> {
        let (pem, key) = (directory.join("ca.pem"), directory.join("ca.key"));
        // The certificate is written last, so a key without one was never used.
        if !pem.exists() {
            make(host, directory, &pem, &key)?;
        }
        let read = |path: &Path| {
            let result = std::fs::read_to_string(path);
            result.map_err(|source| PkiError::File { doing: "read", path: path.to_owned(), source })
        };
        Self::from_pem(read(&pem)?, &read(&key)?)
            .map_err(|path| PkiError::Damaged { path: directory.join(path) })
    }

    /// Reads the CA. The error names the file that is damaged.
    fn from_pem(pem: String, key: &str) -> Result<Self, &'static str> {
        let key = KeyPair::from_pem(key).map_err(|_| "ca.key")?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "ca.pem")?;
        let subject = key.subject_public_key_info();
        if !certificate.windows(subject.len()).any(|part| part == subject) {
            return Err("ca.key");
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| "ca.pem")?;
        Ok(Self { pem, certificate, issuer })
    }

    /// The CA's certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the CA's certificate in DER.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// Issues a certificate with a new key for the server, valid for these host names and IP
    /// addresses.
    pub fn issue_server(&self, names: &[String]) -> Result<CertifiedKey, PkiError> {
        let subject = names.first().map_or("insulad", String::as_str);
        let issue = || {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(names)?;
            describe(&mut params, subject, SERVER_LIFE, ExtendedKeyUsagePurpose::ServerAuth);
            params.signed_by(&key, &self.issuer).map(|certificate| (certificate, key))
        };
        let (certificate, key) =
            issue().map_err(|source| PkiError::Issue { subject: subject.to_owned(), source })?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = ring::sign::any_supported_type(&key).map_err(PkiError::Key)?;
        // The chain includes the CA's certificate, because a client that enrolls knows only its
        // hash.
        Ok(CertifiedKey::new(vec![certificate.der().clone(), self.certificate.clone()], key))
    }

    /// Issues a certificate for a client's key. Nothing but the key is taken from the request.
    pub fn issue_client(
        &self,
        client: &ClientRecord,
        request: CertificateRequest,
        life: Duration,
    ) -> Result<ClientCertificate, PkiError> {
        let key = request.key_fingerprint();
        let mut request = request.request;
        request.params = CertificateParams::default();
        let until =
            describe(&mut request.params, client.name.as_str(), life, ExtendedKeyUsagePurpose::ClientAuth);
        let certificate = request
            .signed_by(&self.issuer)
            .map_err(|source| PkiError::Issue { subject: client.name.to_string(), source })?;
        Ok(ClientCertificate {
            fingerprint: fingerprint(certificate.der()),
            key,
            pem: certificate.pem(),
            expires_at_ms: milliseconds(until),
        })
    }
}

/// SHA-256 of a certificate, in hexadecimal digits. It tells which client a connection belongs to.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    format!("{:x}", Sha256::digest(certificate))
}

/// Creates a CA. Each of the two files is written whole or not at all.
fn make(host: &str, directory: &Path, pem: &Path, key: &Path) -> Result<(), PkiError> {
    let issue = || {
        let pair = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        describe(
            &mut params,
            &format!("Insula on {host}"),
            AUTHORITY_LIFE,
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        params.extended_key_usages.clear();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.self_signed(&pair).map(|certificate| (certificate, pair))
    };
    let (certificate, pair) =
        issue().map_err(|source| PkiError::Issue { subject: "the CA".to_owned(), source })?;
    let file = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| PkiError::File { doing, path, source }
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(file("make the directory", directory))?;
    replace(key, &pair.serialize_pem()).map_err(file("write", key))?;
    replace(pem, &certificate.pem()).map_err(file("write", pem))
}

/// Writes a file for its owner alone: first beside the old one, then in its place.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(directory)?.sync_all()
}

/// Fills in what all certificates have in common. Returns when the certificate expires.
fn describe(
    params: &mut CertificateParams,
    name: &str,
    life: Duration,
    usage: ExtendedKeyUsagePurpose,
) -> SystemTime {
    let (now, mut subject) = (SystemTime::now(), DistinguishedName::new());
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + life).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    now + life
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The CA, and the agent's addresses: what is needed to create tokens and certificates.
#[derive(Debug)]
pub struct Remote {
    /// The agent's certificate authority.
    pub authority: Authority,
    /// The agent's addresses as `HOST:PORT`, the most likely one first.
    pub addresses: Vec<String>,
    /// How long a client's certificate is valid.
    pub certificate_life: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{PKCS_ED25519, SanType};
    use std::os::unix::fs::PermissionsExt;

    fn client() -> ClientRecord {
        ClientRecord {
            id: insula_types::ClientId::new(),
            name: "panel".parse().unwrap(),
            role: insula_types::Role::Billing,
            tenant: None,
            created_at_ms: 0,
            token_expires_at_ms: 0,
            enrolled_at_ms: None,
            revoked_at_ms: None,
            certificates: vec![],
        }
    }

    fn request(params: CertificateParams, key: &KeyPair) -> String {
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn a_ca_is_made_once_and_for_its_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("pki");
        let first = Authority::open(&directory, "vps1").unwrap();
        assert_eq!(Authority::open(&directory, "vps2").unwrap().fingerprint(), first.fingerprint());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let modes = [&directory, &directory.join("ca.key"), &directory.join("ca.pem")].map(|path| mode(path));
        assert_eq!(modes, [0o700, 0o600, 0o600]);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2, "nothing but the two files");
    }

    #[test]
    fn a_key_of_another_ca_is_found_out() {
        let state = tempfile::tempdir().unwrap();
        let (ours, other) = (state.path().join("a"), state.path().join("b"));
        drop((Authority::open(&ours, "a").unwrap(), Authority::open(&other, "b").unwrap()));
        std::fs::copy(other.join("ca.key"), ours.join("ca.key")).unwrap();
        assert!(matches!(Authority::open(&ours, "a"), Err(PkiError::Damaged { .. })));
        std::fs::write(other.join("ca.pem"), "no PEM").unwrap();
        assert!(
            matches!(Authority::open(&other, "b"), Err(PkiError::Damaged { path }) if path.ends_with("ca.pem"))
        );
    }

    #[test]
    fn of_a_request_only_the_key_counts() {
        let state = tempfile::tempdir().unwrap();
        let authority = Authority::open(&state.path().join("pki"), "vps1").unwrap();
        let key = KeyPair::generate().unwrap();
        let mut greedy = CertificateParams::new(vec!["vps1".to_owned()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.subject_alt_names.push(SanType::DnsName("evil.example".try_into().unwrap()));
        greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        greedy.distinguished_name.push(DnType::CommonName, "root");
        let parsed = CertificateRequest::parse(&request(greedy, &key)).unwrap();
        assert_eq!(parsed.key_fingerprint(), format!("{:x}", Sha256::digest(key.subject_public_key_info())));
        let issued = authority.issue_client(&client(), parsed, days(1)).unwrap();
        let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
        assert_eq!(issued.fingerprint, fingerprint(&der));
        let holds = |text: &[u8]| der.windows(text.len()).any(|part| part == text);
        assert!(holds(b"panel") && !holds(b"evil.example") && !holds(b"root"));
        // CA:TRUE, and id-kp-serverAuth (RFC 5280)
        assert!(!holds(&[0x30, 0x03, 0x01, 0x01, 0xff]) && !holds(&[0x2b, 6, 1, 5, 5, 7, 3, 1]));
        assert!(holds(&[0x2b, 6, 1, 5, 5, 7, 3, 2]), "id-kp-clientAuth");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let key = KeyPair::generate().unwrap();
        let good = request(CertificateParams::default(), &key);
        assert!(CertificateRequest::parse(&good).is_ok());
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        assert!(CertificateRequest::parse(&request(CertificateParams::default(), &ed25519)).is_ok());
        let other = request(CertificateParams::default(), &KeyPair::generate().unwrap());
        let (head, tail) = (good.lines().take(4), other.lines().skip(4));
        let mixed: String = head.chain(tail).map(|line| format!("{line}\r\n")).collect();
        let long = format!("{}{good}", " ".repeat(MAX_REQUEST_BYTES));
        for bad in
            ["", "text", &long, &good[..good.len() / 2], &mixed, &key.serialize_pem(), &key.public_key_pem()]
        {
            assert!(CertificateRequest::parse(bad).is_err(), "{bad}");
        }
    }
}
