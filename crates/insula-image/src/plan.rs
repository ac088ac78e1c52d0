//! Turns a definition into the one run of mmdebstrap(1) that builds it. All functions are pure.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use insula_sys::program::Program;

use crate::ImageDefinition;

/// How long a build may take. It takes half a minute on a fast line, and hours on a slow one.
const LIMIT: Duration = Duration::from_secs(2 * 3600);

/// Where mmdebstrap keeps its hooks.
const HOOKS: &str = "/usr/share/mmdebstrap/hooks";

/// A hook that gives mmdebstrap the packages that the last build of this image left in the cache.
const TAKE_FROM_CACHE: &str = r#"mkdir -p "$1/var/cache/apt/archives"
find "$INSULA_PACKAGE_CACHE" -name '*.deb' -exec cp -t "$1/var/cache/apt/archives" {} +"#;

/// A hook that replaces the cache by the packages of this build, without superseded ones. It renames directories, so the cache
/// never has half a package.
const KEEP_IN_CACHE: &str = r#"set -e
chroot "$1" apt-get autoclean
rm -rf "$INSULA_PACKAGE_CACHE.new"
mkdir "$INSULA_PACKAGE_CACHE.new"
cp "$1"/var/cache/apt/archives/*.deb "$INSULA_PACKAGE_CACHE.new"
rm -rf "$INSULA_PACKAGE_CACHE"
mv "$INSULA_PACKAGE_CACHE.new" "$INSULA_PACKAGE_CACHE""#;

/// A setting of apt.conf(5) for the build. mmdebstrap leaves it in the image, and [`render_finish`] removes it.
const ACCEPT_EXPIRED: &str = r#"--aptopt=Acquire::Check-Valid-Until "false""#;

/// A hook that runs the script of [`render_finish`] inside the image.
const FINISH: &str = r#"chroot "$1" /bin/sh -c "$INSULA_FINISH""#;

/// The end of the script: removes what clones must not share, and what mmdebstrap has brought from the host or leaves behind.
/// `clean_check` verifies the result.
const CLEAN: &str = "\
find /var/log -type f -size +0 -delete
find /etc /var/lib/dpkg /var/cache/debconf -xdev -type f \\( -name '*-' -o -name '*-old' \\) -delete
rm -f /etc/ssh/ssh_host_*_key* /etc/hostname /etc/resolv.conf /var/lib/dbus/machine-id
rm -f /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /var/cache/ldconfig/aux-cache
: > /etc/machine-id
: > /etc/resolv.conf
";

/// Plans the program that builds the image in `root`, an empty directory.
///
/// `cache` is the directory of this definition's downloaded packages. No mirror is named, so mmdebstrap uses the one of the
/// suite, and the host's keyrings.
pub fn plan_build(definition: &ImageDefinition, root: &Path, cache: &Path) -> Program {
    let hooks = definition.hooks.iter().map(|hook| format!("--hook-dir={HOOKS}/{hook}"));
    let exclude = definition.exclude.iter().map(|path| format!("--dpkgopt=path-exclude={path}"));
    let include = definition.include.iter().map(|path| format!("--dpkgopt=path-include={path}"));
    Program::new("mmdebstrap")
        .isolated()
        .limit(LIMIT)
        // The image is flushed to disk once, at its end, instead of by every package.
        .env("DPKG_FORCE", "unsafe-io")
        .env("INSULA_PACKAGE_CACHE", cache)
        // A killed build may leave files there. They go when the next build replaces the cache.
        .env("TMPDIR", cache)
        .env("INSULA_FINISH", render_finish(definition))
        .args(["--verbose", "--mode=root", "--format=directory", "--variant=minbase"])
        .arg(format!("--include={}", definition.packages.join(",")))
        .arg("--skip=essential/unlink") // the cache keeps these packages, too
        .args(definition.accept_expired.then_some(ACCEPT_EXPIRED))
        .args(exclude)
        .args(include)
        .arg(format!("--setup-hook={TAKE_FROM_CACHE}"))
        .args(hooks)
        .arg(format!("--customize-hook={KEEP_IN_CACHE}"))
        .arg(format!("--customize-hook={FINISH}"))
        .arg(&definition.suite)
        .arg(root)
}

/// The script that ends the build inside the image: files, commands, cleaning.
fn render_finish(definition: &ImageDefinition) -> String {
    let mut script = String::from("set -eu\numask 022\nexport LC_ALL=C.UTF-8\n");
    if !definition.exclude.is_empty() {
        // The exclusions also hold in the VPS. The name of the file tells its owner why.
        script.push_str("mv /etc/dpkg/dpkg.cfg.d/99mmdebstrap /etc/dpkg/dpkg.cfg.d/excluded-paths\n");
    }
    if definition.accept_expired {
        script.push_str("rm /etc/apt/apt.conf.d/99mmdebstrap\n"); // each VPS has its own settings
    }
    for file in &definition.files {
        let (path, content) = (quote(&file.path), quote(&file.content));
        let _ = writeln!(script, "mkdir -p \"$(dirname {path})\"\nprintf %s {content} > {path}");
        let _ = writeln!(script, "chmod {} {path}", file.mode);
    }
    for command in &definition.run {
        let _ = writeln!(script, "{command}");
    }
    script + CLEAN
}

/// Quotes a text, whatever is in it, as one word of sh(1).
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINITION: &str = r#"
version: 1
name: tiny
description: The least
distribution: debian
release: "12"
suite: bookworm
init: systemd
packages: [systemd-sysv, openssh-server]
hooks: [merged-usr]
exclude: [/usr/share/doc/*]
include: [/usr/share/doc/*/copyright]
files:
  - path: /etc/it's here
    mode: "0600"
    content: |
      it's $HOME
run: [systemctl enable systemd-networkd]
"#;

    #[test]
    fn a_definition_becomes_one_run_of_mmdebstrap() {
        let definition = ImageDefinition::parse(DEFINITION).unwrap();
        insta::assert_debug_snapshot!(plan_build(
            &definition,
            Path::new("/root dir"),
            Path::new("/cache/tiny")
        ));
    }

    #[test]
    fn files_and_commands_become_one_script() {
        let definition = ImageDefinition::parse(DEFINITION).unwrap();
        insta::assert_snapshot!(render_finish(&definition));
    }

    #[test]
    fn expired_lists_are_accepted_by_the_build_alone() {
        let text = format!("{DEFINITION}accept_expired: true\n");
        let definition = ImageDefinition::parse(&text).unwrap();
        let plan = format!("{:?}", plan_build(&definition, Path::new("/root"), Path::new("/cache")));
        assert!(plan.contains("Check-Valid-Until"), "{plan}");
        assert!(render_finish(&definition).contains("rm /etc/apt/apt.conf.d/99mmdebstrap"));
        let strict = ImageDefinition::parse(DEFINITION).unwrap();
        let plan = format!("{:?}", plan_build(&strict, Path::new("/root"), Path::new("/cache")));
        assert!(!plan.contains("Check-Valid-Until"), "{plan}");
        assert_ne!(definition.digest(), strict.digest());
    }

    #[test]
    fn the_shell_takes_a_quoted_text_for_one_word() {
        for text in ["", "a b", "it's", "'", "$(reboot) `x` \\ \"", "two\nlines\n"] {
            let script = format!("printf %s {}", quote(text));
            let output = Program::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output).unwrap(), text);
        }
    }
}
