//! Builds an image: runs the plan, follows its progress, checks the result.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use insula_sys::program::{Program, ProgramError};
use insula_types::{ImageAlias, Progress};

use crate::progress::BuildWatch;
pub use crate::progress::FailureCause;
use crate::{ImageDefinition, clean_check, plan_build};

/// Why an image was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// mmdebstrap is not installed.
    #[error("failed to build image {image}: mmdebstrap is not installed; install the package of that name")]
    NotInstalled {
        /// The definition's name.
        image: ImageAlias,
    },
    /// The directory for the image is not empty.
    #[error("failed to build image {image}: {root:?} is not empty")]
    NotEmpty {
        /// The definition's name.
        image: ImageAlias,
        /// Where it was to be built.
        root: PathBuf,
    },
    /// A directory could not be made, read or written.
    #[error("failed to build image {image}: {doing} {path:?}")]
    Directory {
        /// The definition's name.
        image: ImageAlias,
        /// What was being done.
        doing: &'static str,
        /// The directory.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// mmdebstrap failed.
    #[error("failed to build image {image}: {cause}")]
    Failed {
        /// The definition's name.
        image: ImageAlias,
        /// The cause, as far as it is known.
        cause: FailureCause,
        /// How the program ended, with its last lines.
        #[source]
        source: ProgramError,
    },
    /// The caller cancelled the build.
    #[error("the build of image {image} was cancelled")]
    Cancelled {
        /// The definition's name.
        image: ImageAlias,
    },
    /// The image was built, but its clones would share what they must not.
    #[error("image {image} is not clean for cloning: {}", findings.join("; "))]
    Unclean {
        /// The definition's name.
        image: ImageAlias,
        /// What [`clean_check`] found.
        findings: Vec<String>,
    },
}

/// Builds the image in `root`, an empty directory. When this returns without an error, all of the image is on the disk.
///
/// A build takes half a minute on a fast line. `cache` is a directory for downloaded packages, which is made if it is missing,
/// and which all definitions share. The build is cancelled when `cancel`, such as an eventfd, becomes readable.
///
/// # Errors
/// Every [`BuildError`]. However the build ends, nothing of it still runs or is mounted. After an error, the content of `root` is
/// of no use.
pub fn build(
    definition: &ImageDefinition,
    root: &Path,
    cache: &Path,
    cancel: Option<BorrowedFd<'_>>,
    on_progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), BuildError> {
    let image = || definition.name.clone();
    let cache = cache.join(definition.name.as_str());
    if !Program::new("mmdebstrap").is_installed() {
        return Err(BuildError::NotInstalled { image: image() });
    }
    let failed = |doing, path: &Path| {
        let (image, path) = (image(), path.to_owned());
        move |source| BuildError::Directory { image, doing, path, source }
    };
    if fs::read_dir(root).map_err(failed("can't read", root))?.next().is_some() {
        return Err(BuildError::NotEmpty { image: image(), root: root.to_owned() });
    }
    fs::create_dir_all(&cache).map_err(failed("can't make the package cache", &cache))?;

    let mut watch = BuildWatch::default();
    plan_build(definition, root, &cache)
        .run_with_lines(cancel, |line| {
            tracing::trace!(image = %definition.name, "{line}");
            if let Some(progress) = watch.observe(line) {
                on_progress(progress);
            }
        })
        .map_err(|source| explain(source, image(), &watch))?;

    finish(root).map_err(failed("can't write", root))?;
    match clean_check(root) {
        findings if findings.is_empty() => Ok(()),
        findings => Err(BuildError::Unclean { image: image(), findings }),
    }
}

fn explain(source: ProgramError, image: ImageAlias, watch: &BuildWatch) -> BuildError {
    let cause = match source {
        ProgramError::Cancelled { .. } => return BuildError::Cancelled { image },
        ProgramError::TimedOut { .. } => FailureCause::TimedOut,
        _ => watch.cause(),
    };
    BuildError::Failed { image, cause, source }
}

/// Empties `/dev`, and flushes the file system to disk. mmdebstrap fills `/dev`, but a VPS gets its own from the host.
fn finish(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root.join("dev"))? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(rustix::fs::syncfs(fs::File::open(root)?)?)
}
