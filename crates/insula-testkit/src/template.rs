//! Templates: state directories of hosts on which an image was built once. Other hosts start with a
//! copy.
//!
//! This file does not know how to build an image, because that takes a host, and hosts are made
//! from templates.

use std::fs;
use std::path::Path;

use crate::image::Image;
use crate::process::Command;
use crate::{fsid, namespaces, store};

/// Ensures that there is a template of the image. `build` builds it again if the definition has
/// changed. The calling thread must have network access.
pub fn ensure(image: Image, build: fn(Image, &Path)) {
    // A thread of its own, because mounts and hosts move their thread to other namespaces.
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

/// Creates `state_dir`, which must not exist: the state of a host on which the image was built.
pub fn copy_state(image: Image, state_dir: &Path) {
    let template = store::ensure_mounted().join(image.template());
    Command::new("cp").args(["--archive", "--reflink=always"]).args([&template, state_dir]).run_ok();
    fsid::renew(&state_dir.join("pools/default.btrfs")).expect("a new identity for the pool");
}

/// Like [`copy_state`], with the image in a pool of plain directories. The calling thread must have
/// a mount namespace of its own.
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
