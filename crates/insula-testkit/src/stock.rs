//! A file with a store full of templates, for a machine that can't build them.

use std::path::Path;

use crate::host::ensure_template;
use crate::image::Image;
use crate::process::Command;
use crate::{namespaces, store};

/// Makes a store with the templates of these images in a new file, for `INSULA_TEST_STORE` on
/// another machine. The calling thread must have network access.
pub fn make_store(file: &Path, images: &[Image]) {
    images.iter().for_each(|image| ensure_template(*image));
    let fill = || {
        namespaces::enter_mounts();
        let new = file.with_extension("new");
        store::make(&new);
        let directory = tempfile::tempdir().expect("a mount point");
        store::mount(&new, directory.path());
        for image in images {
            let copy = ["--archive", "--sparse=always", "--target-directory"];
            let template = store::ensure_mounted().join(image.template());
            Command::new("cp").args(copy).args([directory.path(), &template]).run_ok();
        }
        Command::new("umount").args([directory.path()]).run_ok();
        std::fs::rename(new, file).expect("the file in its place");
    };
    // A thread of its own, because mounting moves the thread to another mount namespace.
    std::thread::scope(|scope| scope.spawn(fill).join()).expect("a store");
}
