//! Templates: state directories of hosts on which an image was built once, and which other hosts begin with a copy of.
//!
//! How an image is built is not known here: that takes a host, and hosts are made of templates.

use std::fs;
use std::path::Path;

use crate::image::Image;
use crate::process::Command;
use crate::{fsid, namespaces, store};

/// Sees to it that there is a template of the image. It is built again, by `build`, when the definition has changed. To be
/// called from a thread that reaches the network.
pub fn ensure(image: Image, build: fn(Image, &Path)) {
    // A thread of its own, because mounts and hosts take their thread to other namespaces.
    let ensure = || {
        namespaces::enter_mounts();
        let template = store::ensure_mounted().join(image.template());
        let _alone = store::lock(image.alias());
        if !template.exists() {
            build(image, &template);
        }
    };
    std::thread::scope(|scope| scope.spawn(ensure).join()).expect("a template");
}

/// Makes `state_dir`, which is not there yet: the state of a host on which the image was built.
pub fn copy_state(image: Image, state_dir: &Path) {
    let template = store::ensure_mounted().join(image.template());
    Command::new("cp").args(["--archive", "--reflink=always"]).args([&template, state_dir]).run_ok();
    fsid::renew(&state_dir.join("pools/default.btrfs")).expect("a new identity for the pool");
}

/// The same with the image in a pool of plain directories. The calling thread has a mount namespace of its own.
pub fn copy_plain_state(image: Image, state_dir: &Path) {
    copy_state(image, state_dir);
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
