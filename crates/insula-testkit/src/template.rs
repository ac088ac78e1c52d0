//! Images for scratch hosts: built once by an agent, like any image, and copied with its state directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use insula_image::ImageDefinition;

use crate::fsid;
use crate::host::ScratchHost;
use crate::paths::project_file;
use crate::process::Command;
use crate::{namespaces, store};

/// An image that a scratch host has from the beginning, by the name of its file: one of `images/` or `tests/images/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image(&'static str);

impl Image {
    /// `images/debian-12.yaml`, which most tests take.
    #[expect(non_upper_case_globals, reason = "it reads as one of a kind")]
    pub const Debian12: Self = Self("debian-12");
    /// `images/debian-13.yaml`
    #[expect(non_upper_case_globals, reason = "it reads as one of a kind")]
    pub const Debian13: Self = Self("debian-13");
    /// `tests/images/debian-12-docker.yaml`
    #[expect(non_upper_case_globals, reason = "it reads as one of a kind")]
    pub const Debian12Docker: Self = Self("debian-12-docker");

    /// The one that is built from `images/<name>.yaml`.
    pub const fn named(name: &'static str) -> Self {
        Self(name)
    }

    /// Its alias.
    pub fn alias(self) -> &'static str {
        self.0
    }

    /// What it is made of.
    pub fn read(self) -> ImageDefinition {
        let text = fs::read_to_string(self.definition()).expect("the definition");
        ImageDefinition::parse(&text).expect("the definition")
    }

    /// Its definition's file.
    pub fn definition(self) -> PathBuf {
        let directory = if self == Self::Debian12Docker { "tests/images" } else { "images" };
        project_file(directory).join(format!("{}.yaml", self.alias()))
    }

    /// Sees to it that there is a state directory that others are copied from. It is built again when the definition
    /// has changed. To be called from a thread that reaches the network.
    pub fn ensure_template(self) {
        // A thread of its own, because mounts and hosts take their thread to other namespaces.
        let ensure = || {
            namespaces::enter_mounts();
            let template = store::ensure_mounted().join(self.template());
            let _alone = store::lock(self.alias());
            if !template.exists() {
                self.build(&template);
            }
        };
        std::thread::scope(|scope| scope.spawn(ensure).join()).expect("a template");
    }

    /// Makes `state_dir`, which is not there yet: the state of a host on which the image was built.
    pub fn copy_state(self, state_dir: &Path) {
        let template = store::ensure_mounted().join(self.template());
        Command::new("cp").args(["--archive", "--reflink=always"]).args([&template, state_dir]).run_ok();
        fsid::renew(&state_dir.join("pools/default.btrfs")).expect("a new identity for the pool");
    }

    /// The same with the image in a pool of plain directories. The calling thread has a mount namespace of its own.
    pub fn copy_plain_state(self, state_dir: &Path) {
        self.copy_state(state_dir);
        let (file, pool) = (state_dir.join("pools/default.btrfs"), state_dir.join("pools/default"));
        let mounted = state_dir.join("pools/mounted");
        fs::create_dir_all(&mounted).expect("a mount point");
        Command::new("mount").args(["-o", "loop"]).args([&file, &mounted]).run_ok();
        for image in fs::read_dir(mounted.join("images")).expect("the images") {
            let image = image.expect("an image");
            let holder = pool.join("images").join(image.file_name());
            fs::create_dir_all(&holder).expect("a directory");
            fs::write(holder.join("note"), "of-a-template\n\n").expect("a note");
            Command::new("cp").args(["--archive"]).args([image.path(), holder.join("tree")]).run_ok();
        }
        Command::new("umount").args([&mounted]).run_ok();
        fs::remove_dir(&mounted).expect("an empty directory");
        fs::remove_file(&file).expect("the pool that was copied");
    }

    /// The template's name in the store.
    pub fn template(self) -> String {
        let digest = self.read().digest().to_string();
        format!("template-{}-{}", self.alias(), &digest[..12])
    }

    fn build(self, template: &Path) {
        const LIMIT: Duration = Duration::from_secs(900);
        let host = ScratchHost::builder().uplink().start();
        let build = host.command("insula").args(["image", "build", "--quiet"]).args([self.definition()]);
        build.limit(LIMIT).run_ok();
        // What was deleted on the way takes no room in the copies.
        let pool = host.pool();
        Command::new("btrfs").args(["subvolume", "sync"]).args([&pool]).run_ok();
        Command::new("fstrim").args([&pool]).run_ok();
        host.keep_state(template);
    }
}
