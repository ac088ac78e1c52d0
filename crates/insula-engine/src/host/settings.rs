//! What can be set of an agent. Every key has a default; `docs/configuration.md` lists them. Settings are read once and
//! do not change while the agent runs.

mod reboots;
mod remote;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use insula_net::TableName;
use insula_types::{ByteSize, IdRange, InterfaceName, NetworkName, PoolName, ProfileName};
use ipnet::IpNet;
use serde::Deserialize;

pub use reboots::RebootSettings;
pub use remote::{AccessSettings, GrpcWebSettings, TlsSettings};

/// The settings of an agent. Two agents live on one machine when they differ in the directories, the bridge, the nft
/// table, the cgroup root and the id range.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the state is kept.
    pub state_dir: PathBuf,
    /// Where sockets and what a restart of the host may lose is kept; a tmpfs.
    pub run_dir: PathBuf,
    /// Where clients connect over the network. Absent: nowhere.
    pub listen: Option<SocketAddr>,
    /// The server's certificate.
    pub tls: TlsSettings,
    /// Clients over the network.
    pub access: AccessSettings,
    /// gRPC-Web.
    pub grpc_web: GrpcWebSettings,
    /// Where the profiles are, one YAML file each. Absent: those that come with Insula.
    pub profile_dir: Option<PathBuf>,
    /// The profile of VPSes that name none.
    pub default_profile: ProfileName,
    /// The storage pool.
    pub pool: PoolSettings,
    /// The network of VPSes.
    pub network: NetworkSettings,
    /// The name of Insula's group in each cgroup hierarchy.
    pub cgroup_root: String,
    /// The host's user and group ids that VPSes get theirs from.
    pub ids: IdRange,
    /// How many ranges of 65,536 ids a VPS with the feature `nesting` has.
    pub nesting_id_ranges: u32,
    /// The program `insula-monitor`. Absent: beside this program, else in `/usr/lib/insula`.
    pub monitor: Option<PathBuf>,
    /// How many monitors wait for a VPS to start.
    pub spare_monitors: usize,
    /// Seconds until a start counts as failed when init has not been executed.
    pub start_timeout_s: u64,
    /// Seconds until a client that waits for *ready* is told that it takes too long.
    pub ready_timeout_s: u64,
    /// Seconds that a guest has to shut down before it is killed, where the request doesn't say.
    pub stop_timeout_s: u64,
    /// How often a guest may reboot or crash in a row.
    pub reboots: RebootSettings,
    /// How many operations may work at a time; others wait.
    pub parallel_operations: usize,
    /// Days that operations are remembered, at least 1: so long a retry with the same request id is known.
    pub keep_operations_days: u32,
    /// Days that events are kept for clients that were away.
    pub keep_events_days: u32,
    /// Days that a VPS stays in the trash; 0: there is no trash.
    pub keep_deleted_days: u32,
}

/// What a pool is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolDriver {
    /// Subvolumes of a btrfs: instant copies, limits.
    Btrfs,
    /// Plain directories on any file system: copies file by file, no limits.
    Dir,
}

impl PoolDriver {
    /// As it is written in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Dir => "dir",
        }
    }
}

/// The storage pool: a directory that is there already, or else one that the agent makes.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolSettings {
    /// Its name.
    pub name: PoolName,
    /// What it is made of. Absent: btrfs; where nothing can be mounted, inside of a container, plain directories.
    pub driver: Option<PoolDriver>,
    /// A directory that is there already: of a btrfs, unless the driver is another.
    pub path: Option<PathBuf>,
    /// The size of the file. Absent: half of what the host's disk has free, at least 8 GiB.
    pub size: Option<ByteSize>,
}

/// The network of VPSes: a bridge of its own behind NAT.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// Its name.
    pub name: NetworkName,
    /// The interface on the host.
    pub bridge: InterfaceName,
    /// Its range. Absent: a private /24 that collides with no route of the host, chosen once.
    pub subnet: Option<IpNet>,
    /// The name servers of guests. Absent: those of the host.
    pub dns: Option<Vec<IpAddr>>,
    /// The nftables table.
    pub nft_table: TableName,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/insula".into(),
            run_dir: "/run/insula".into(),
            listen: None,
            tls: TlsSettings::default(),
            access: AccessSettings::default(),
            grpc_web: GrpcWebSettings::default(),
            profile_dir: None,
            default_profile: "small".parse().expect("a label"),
            pool: PoolSettings::default(),
            network: NetworkSettings::default(),
            cgroup_root: "insula".to_owned(),
            // Free by <https://systemd.io/UIDS-GIDS/>, and below 2^31, where some programs see negative numbers.
            ids: IdRange { start: 1_879_048_192, length: 4096 * IdRange::DEFAULT_LENGTH },
            nesting_id_ranges: 8,
            monitor: None,
            spare_monitors: 2,
            start_timeout_s: 30,
            ready_timeout_s: 180,
            stop_timeout_s: 60,
            reboots: RebootSettings::default(),
            parallel_operations: 16,
            keep_operations_days: 30,
            keep_events_days: 30,
            keep_deleted_days: 7,
        }
    }
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { name: "default".parse().expect("a label"), driver: None, path: None, size: None }
    }
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            name: "default".parse().expect("a label"),
            bridge: "insbr0".parse().expect("a short word"),
            subnet: None,
            dns: None,
            nft_table: "insula".parse().expect("our own"),
        }
    }
}

impl Settings {
    /// Until when a start counts.
    pub(crate) fn start_timeout(&self) -> Duration {
        Duration::from_secs(self.start_timeout_s)
    }

    /// Until when a boot counts.
    pub(crate) fn ready_timeout(&self) -> Duration {
        Duration::from_secs(self.ready_timeout_s)
    }

    /// What a guest has to shut down.
    pub fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.stop_timeout_s)
    }

    /// Refuses what can't work, before anything is touched. The text says which key.
    pub fn check(&self) -> Result<(), String> {
        let root = &self.cgroup_root;
        let plain = root.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
        if !plain || root.len() > 200 || root.split('/').any(|part| part.is_empty() || part.starts_with('.'))
        {
            return Err(format!(
                "cgroup_root: {root:?} must be a relative path of letters, digits, - _ and ."
            ));
        }
        if self.ids.start < 65_536 || self.ids.length < IdRange::DEFAULT_LENGTH || self.ids.end() > 1 << 32 {
            return Err("ids: it must begin at 65536 or above, hold at least 65536 ids, and end below 2^32"
                .to_owned());
        }
        // The last id of a guest must be one of a user id's 32 bits.
        if !(1..=4096).contains(&self.nesting_id_ranges) {
            return Err("nesting_id_ranges: it must be 1 to 4096".to_owned());
        }
        for (key, directory) in [("state_dir", &self.state_dir), ("run_dir", &self.run_dir)] {
            if !directory.is_absolute() {
                return Err(format!("{key}: {} must be an absolute path", directory.display()));
            }
        }
        self.tls.check()?;
        self.access.check()?;
        self.grpc_web.check()?;
        self.reboots.check()?;
        if let Some(subnet @ IpNet::V6(_)) = self.network.subnet {
            return Err(format!("network.subnet: {subnet} is IPv6, and only networks of IPv4 can be made"));
        }
        if self.pool.driver == Some(PoolDriver::Dir) && self.pool.size.is_some() {
            return Err(
                "pool.size: a pool of plain directories is as large as the disk that it is on".to_owned()
            );
        }
        match self.pool.size {
            Some(size) if size < ByteSize::gib(1) => Err(format!("pool.size: {size} is less than 1GiB")),
            _ if self.keep_operations_days == 0 => {
                Err("keep_operations_days: it must be at least 1".to_owned())
            }
            _ if self.parallel_operations == 0 => {
                Err("parallel_operations: it must be at least 1".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_work() {
        assert_eq!(Settings::default().check(), Ok(()));
        let read: Settings = serde_json::from_str("{}").unwrap();
        assert_eq!(read.check(), Ok(()));
    }

    #[test]
    fn tables_of_others_are_refused() {
        let error = serde_json::from_str::<Settings>(r#"{"network": {"nft_table": "filter"}}"#).unwrap_err();
        assert!(error.to_string().contains("filter"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = serde_json::from_str::<Settings>(r#"{"state_dri": "/x"}"#).unwrap_err().to_string();
        assert!(error.contains("state_dri") && error.contains("state_dir"), "{error}");
    }

    #[test]
    fn what_cannot_work_is_refused_by_key() {
        for (json, key) in [
            (r#"{"cgroup_root": "../x"}"#, "cgroup_root"),
            (r#"{"ids": {"start": 0, "length": 65536}}"#, "ids"),
            (r#"{"nesting_id_ranges": 0}"#, "nesting_id_ranges"),
            (r#"{"state_dir": "relative"}"#, "state_dir"),
            (r#"{"pool": {"size": "1M"}}"#, "pool.size"),
            (r#"{"pool": {"driver": "dir", "size": "8G"}}"#, "pool.size"),
            (r#"{"network": {"subnet": "2001:db8::/64"}}"#, "network.subnet"),
            (r#"{"parallel_operations": 0}"#, "parallel_operations"),
            (r#"{"tls": {"names": ["https://vps1"]}}"#, "tls.names"),
            (r#"{"access": {"certificate_days": 0}}"#, "access.certificate_days"),
            (r#"{"access": {"connections": 0}}"#, "access.connections"),
            (r#"{"reboots": {"forget_after_s": 0}}"#, "reboots.forget_after_s"),
            (r#"{"reboots": {"first_pause_ms": 0}}"#, "reboots.first_pause_ms"),
            (r#"{"reboots": {"pauses": 1000}}"#, "reboots.pauses"),
            (r#"{"grpc_web": {"allowed_origins": ["*"]}}"#, "grpc_web.allowed_origins"),
        ] {
            let settings: Settings = serde_json::from_str(json).unwrap();
            assert!(settings.check().unwrap_err().starts_with(key), "{json}");
        }
    }
}
