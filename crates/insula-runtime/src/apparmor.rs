//! The policies of AppArmor that guests run under.
//!
//! Each VPS has a namespace of policies of its own, below one of its agent: `:insula//<id>:guest`. All have the same
//! profile, compiled once; into a namespace it is written by file, and no program is run at a start. See `docs/adr`.
//!
//! securityfs, `policy/namespaces/`: a directory made there is a namespace; what is written to its `.replace` is loaded into it;
//! removed, it takes its profiles along. Whoever was still in it is unconfined then: it goes after the last process.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use insula_sys::program::{Program, ProgramError};
use insula_types::VpsId;

use crate::plan::{GUEST_PROFILE, render_profile};

/// Where the kernel shows policies.
const NAMESPACES: &str = "/sys/kernel/security/apparmor/policy/namespaces";

/// What a thread will be confined by when it executes a program, and by what it is now: proc_pid_attr(5).
const AT_EXEC: &str = "/proc/thread-self/attr/apparmor/exec";
const NOW: &str = "/proc/thread-self/attr/apparmor/current";

/// Why guests run under no policy of AppArmor.
#[derive(Debug, thiserror::Error)]
pub enum AppArmorLack {
    /// The kernel has none, or it is switched off.
    #[error("the kernel has no AppArmor, or it is switched off")]
    Kernel,
    /// Policies can't be reached.
    #[error("{NAMESPACES} is not there: mount securityfs at /sys/kernel/security")]
    Securityfs,
    /// What compiles policies is not installed.
    #[error("apparmor_parser is not installed: install the package apparmor")]
    Parser,
}

/// Why a policy could not be compiled, loaded, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum AppArmorError {
    /// The compiler.
    #[error("failed to compile the AppArmor policy of guests")]
    Compile(#[from] ProgramError),
    /// The kernel, or a file.
    #[error("failed to {what} {path}")]
    Refused {
        /// What was being done.
        what: &'static str,
        /// To which file or namespace.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

fn refused(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AppArmorError {
    move |source| AppArmorError::Refused { what, path: path.to_owned(), source }
}

/// The namespaces of one agent's VPSes, by name. Whether the host has AppArmor is another question: [`observe`](Self::observe).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppArmor {
    agent: String,
}

impl AppArmor {
    /// Those of the agent with this group: a name that no other agent on the host has.
    pub fn of(root_name: &Path) -> Self {
        // The name of a namespace has neither slashes nor colons.
        Self { agent: root_name.to_string_lossy().replace(['/', ':'], ".") }
    }

    /// Whether guests can have a policy on this host.
    pub fn observe() -> Result<(), AppArmorLack> {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        match enabled.trim() == "Y" {
            false => Err(AppArmorLack::Kernel),
            true if !Path::new(NAMESPACES).is_dir() => Err(AppArmorLack::Securityfs),
            true if !Program::new("apparmor_parser").is_installed() => Err(AppArmorLack::Parser),
            true => Ok(()),
        }
    }

    /// Compiles the policy of guests for the host's kernel, into a file of this directory.
    pub fn compile(directory: &Path) -> Result<PathBuf, AppArmorError> {
        let parser = Program::new("apparmor_parser").args(["--quiet", "--skip-cache", "--stdout"]);
        let policy = parser.input(render_profile()).output()?;
        let (file, new) = (directory.join("apparmor.policy"), directory.join("apparmor.policy.new"));
        fs::write(&new, policy).and_then(|()| fs::rename(&new, &file)).map_err(refused("write", &file))?;
        Ok(file)
    }

    /// Loads the policy into the VPS's namespace. One that is loaded stays as it is.
    pub(crate) fn ensure_loaded(&self, id: &VpsId, policy: &Path) -> Result<(), AppArmorError> {
        let namespace = self.namespace(id);
        let is_loaded = |mut profiles: fs::ReadDir| profiles.next().is_some();
        if fs::read_dir(namespace.join("profiles")).is_ok_and(is_loaded) {
            return Ok(());
        }
        let policy = fs::read(policy).map_err(refused("read", policy))?;
        for namespace in [self.agents(), namespace.clone()] {
            match fs::create_dir(&namespace) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(refused("make the namespace", &namespace)(error));
                }
                _ => {}
            }
        }
        let path = namespace.join(".replace");
        // All of it at once: the kernel takes a write for a whole policy.
        let load = || match fs::OpenOptions::new().write(true).open(&path)?.write(&policy)? {
            written if written == policy.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        };
        load().map_err(refused("load a policy through", &path))
    }

    /// Has the calling thread, or a process that it makes, confined from its next execve(2) on. It must see the host's
    /// `/proc`: a guest's would be a file of the guest's choice.
    pub(crate) fn enter_at_exec(&self, id: &VpsId) -> io::Result<()> {
        self.request(AT_EXEC, "exec", id)
    }

    /// Has the calling thread, which will execute nothing, confined from now on. It must see the host's `/proc`, too.
    pub(crate) fn enter(&self, id: &VpsId) -> io::Result<()> {
        self.request(NOW, "changeprofile", id)
    }

    fn request(&self, file: &str, verb: &str, id: &VpsId) -> io::Result<()> {
        let request = format!("{verb} :{}//{id}:{GUEST_PROFILE}", self.agent);
        fs::OpenOptions::new().write(true).open(file)?.write_all(request.as_bytes())
    }

    /// Removes the VPS's namespace. Its processes must have ended.
    pub fn ensure_absent(&self, id: &VpsId) -> Result<(), AppArmorError> {
        remove(&self.namespace(id))
    }

    /// Removes the agent's namespace with all that is in it.
    pub fn ensure_all_absent(&self) -> Result<(), AppArmorError> {
        remove(&self.agents())
    }

    /// The VPSes that have a namespace.
    pub fn observe_namespaces(&self) -> Result<Vec<VpsId>, AppArmorError> {
        let path = self.agents().join("namespaces");
        let list =
            || fs::read_dir(&path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
        match list() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
            names => {
                let names = names.map_err(refused("list", &path))?;
                Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
            }
        }
    }

    fn agents(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.agent)
    }

    fn namespace(&self, id: &VpsId) -> PathBuf {
        self.agents().join("namespaces").join(id.to_string())
    }
}

/// Also where the kernel has no AppArmor: then there is nothing to remove.
fn remove(namespace: &Path) -> Result<(), AppArmorError> {
    match fs::remove_dir(namespace) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(refused("remove the namespace", namespace)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_have_namespaces_of_their_own() {
        let namespace = |name: &str| AppArmor::of(Path::new(name)).agents();
        assert_eq!(namespace("insula"), Path::new(NAMESPACES).join("insula"));
        assert_eq!(namespace("a.slice/b:c"), Path::new(NAMESPACES).join("a.slice.b.c"));
    }

    #[test]
    fn what_is_not_there_is_removed() {
        let (apparmor, id) = (AppArmor::of(Path::new("insula-test-none")), VpsId::new());
        apparmor.ensure_absent(&id).unwrap();
        apparmor.ensure_all_absent().unwrap();
        assert_eq!(apparmor.observe_namespaces().unwrap(), []);
    }
}
