//! Reads mmdebstrap's output: how far a build is, and why it fails.

use std::fmt;

use insula_types::Progress;

/// Why a build failed, as far as the programs' output says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// The package archive can't be reached, or lacks a file.
    Network,
    /// The archive's signature can't be verified.
    Keyring,
    /// No space is left, on the disk or in a quota.
    DiskFull,
    /// The build took too long.
    TimedOut,
    /// Something else, which the last lines of the program's output say.
    Other,
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => {
                "the package archive did not answer as it should; check the host's network and name resolution"
            }
            Self::Keyring => {
                "the signature of the package archive can't be verified; upgrade debian-archive-keyring"
            }
            Self::DiskFull => "no space left; free some, or take a larger pool",
            Self::TimedOut => "it took too long; check the host's network",
            Self::Other => "mmdebstrap failed",
        })
    }
}

/// The phases of a build: the line that begins each, the range of percent that it takes, and its description for people.
/// The ranges follow the time that each phase takes on a fast line.
const PHASES: [(&str, u8, u8, &str); 7] = [
    ("I: running apt-get update", 1, 8, "reading the package lists"),
    ("I: downloading packages with apt", 8, 15, "downloading the base system"),
    ("I: extracting archives", 15, 30, "unpacking the base system"),
    ("I: installing essential packages", 30, 55, "installing the base system"),
    ("I: installing remaining packages", 55, 94, "downloading packages"),
    ("I: running --customize-hook", 94, 98, "configuring"),
    ("I: cleaning package lists", 98, 99, "cleaning up"),
];

const CAUSES: [(&str, FailureCause); 9] = [
    ("No space left on device", FailureCause::DiskFull),
    ("Disk quota exceeded", FailureCause::DiskFull),
    ("have enough free space", FailureCause::DiskFull),
    ("NO_PUBKEY", FailureCause::Keyring),
    ("is not signed", FailureCause::Keyring),
    ("Temporary failure resolving", FailureCause::Network),
    ("Could not connect to", FailureCause::Network),
    ("Failed to fetch", FailureCause::Network),
    ("does not have a Release file", FailureCause::Network),
];

/// Follows a build by the lines of mmdebstrap's output.
#[derive(Debug, Default)]
pub struct BuildWatch {
    phase: Option<usize>,
    packages: u32,
    steps: u32,
    percent: u8,
    cause: Option<FailureCause>,
}

impl BuildWatch {
    /// Takes the next line. Returns how far the build is if the line says something new.
    pub fn observe(&mut self, line: &str) -> Option<Progress> {
        // The first cause counts, and later ones are its consequences. A full disk is the exception: nothing works on it.
        if let Some((_, cause)) = CAUSES.iter().find(|(words, _)| line.contains(words)) {
            let graver = *cause == FailureCause::DiskFull;
            self.cause = self.cause.filter(|_| !graver).or(Some(*cause));
        }
        if let Some(phase) = PHASES.iter().position(|(begin, ..)| line.starts_with(begin)) {
            (self.phase, self.steps) = (Some(phase), 0);
            let (_, start, _, message) = PHASES[phase];
            return Some(self.advance(start, message.to_owned()));
        }
        if let Some(count) = newly_installed(line) {
            self.packages = count;
        }
        let message = package_step(line)?;
        let (_, start, end, _) = PHASES[self.phase?];
        // Each package is unpacked and set up. mmdebstrap may install some of them in a run of their own.
        self.steps = (self.steps + 1).min(2 * self.packages);
        let share = u32::from(end - start) * self.steps / (2 * self.packages).max(1);
        let percent = start + u8::try_from(share).unwrap_or(0);
        (percent > self.percent).then(|| self.advance(percent, message))
    }

    /// Why the build failed, if it did.
    pub fn cause(&self) -> FailureCause {
        self.cause.unwrap_or(FailureCause::Other)
    }

    /// Progress never goes back, even if a later mmdebstrap has its phases in another order.
    fn advance(&mut self, percent: u8, message: String) -> Progress {
        self.percent = self.percent.max(percent);
        Progress { percent: self.percent, message }
    }
}

/// The number of packages in apt's summary: `0 upgraded, 59 newly installed, 0 to remove and 0 not upgraded.`
fn newly_installed(line: &str) -> Option<u32> {
    let (before, _) = line.split_once(" newly installed, ")?;
    before.rsplit(' ').next()?.parse().ok()
}

/// What dpkg is doing, from a line such as `Unpacking libc6:amd64 (2.36-9) ...`.
fn package_step(line: &str) -> Option<String> {
    let (verb, rest) = [("unpacking", "Unpacking "), ("setting up", "Setting up ")]
        .into_iter()
        .find_map(|(verb, prefix)| Some((verb, line.strip_prefix(prefix)?)))?;
    let package = rest.split([' ', ':']).next()?;
    Some(format!("{verb} {package}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_follows_the_phases_and_the_packages() {
        let lines = [
            ("I: automatically chosen format: directory", None),
            ("I: running apt-get update...", Some((1, "reading the package lists"))),
            ("I: downloading packages with apt...", Some((8, "downloading the base system"))),
            ("0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.", None),
            ("I: extracting archives...", Some((15, "unpacking the base system"))),
            ("I: installing essential packages...", Some((30, "installing the base system"))),
            ("Unpacking libc6:amd64 (2.36-9) ...", Some((36, "unpacking libc6"))),
            ("Setting up libc6:amd64 (2.36-9) ...", Some((42, "setting up libc6"))),
            ("I: installing remaining packages inside the chroot...", Some((55, "downloading packages"))),
            ("0 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.", None),
            ("Unpacking less (590-2) ...", Some((74, "unpacking less"))),
            ("Setting up less (590-2) ...", Some((94, "setting up less"))),
            ("Setting up more (1) ...", None),
            ("I: running --customize-hook in shell: sh -c '...'", Some((94, "configuring"))),
            ("I: cleaning package lists and apt cache...", Some((98, "cleaning up"))),
        ];
        let mut watch = BuildWatch::default();
        for (line, expected) in lines {
            let expected =
                expected.map(|(percent, message)| Progress { percent, message: message.to_owned() });
            assert_eq!(watch.observe(line), expected, "{line}");
        }
    }

    #[test]
    fn the_first_cause_is_told_unless_the_disk_is_full() {
        let cases = [
            (vec!["E: something"], FailureCause::Other),
            (vec!["Err:1 http://host x", "  Temporary failure resolving 'host'"], FailureCause::Network),
            (vec!["W: GPG error: NO_PUBKEY 0E98404D386FA1D9", "E: Failed to fetch"], FailureCause::Keyring),
            (vec!["E: Failed to fetch x", "cp: No space left on device"], FailureCause::DiskFull),
        ];
        for (lines, expected) in cases {
            let mut watch = BuildWatch::default();
            lines.iter().for_each(|line| assert_eq!(watch.observe(line), None));
            assert_eq!(watch.cause(), expected, "{lines:?}");
        }
    }
}
