//! Carrying out a build.

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
    /// The program that builds it is missing.
    #[error("failed to build image {image}: mmdebstrap is not installed; install the package of that name")]
    NotInstalled {
        /// The definition's name.
        image: ImageAlias,
    },
    /// There is something in the directory already.
    #[error("failed to build image {image}: {root:?} is not empty")]
    NotEmpty {
        /// The definition's name.
        image: ImageAlias,
        /// Where it was to be built.
        root: PathBuf,
    },
    /// A directory could not be used.
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
    /// mmdebstrap did not do it.
    #[error("failed to build image {image}: {cause}")]
    Failed {
        /// The definition's name.
        image: ImageAlias,
        /// What it failed of.
        cause: FailureCause,
        /// How the program ended, with its last lines.
        #[source]
        source: ProgramError,
    },
    /// The caller stopped it.
    #[error("the build of image {image} was cancelled")]
    Cancelled {
        /// The definition's name.
        image: ImageAlias,
    },
    /// It was built, and clones of it would share what they must not.
    #[error("image {image} is not clean for cloning: {}", findings.join("; "))]
    Unclean {
        /// The definition's name.
        image: ImageAlias,
        /// What [`clean_check`] found.
        findings: Vec<String>,
    },
}

/// Builds the image in `root`, an existing and empty directory. When it returns well, all of it is on the disk.
///
/// It takes half a minute on a fast line. `cache` is a directory for downloaded packages, made when missing and
/// shared by all definitions. The build ends early when `cancel` (an eventfd, say) can be read. However it ends,
/// nothing of it runs or is mounted any more; after an error the content of `root` is rubbish.
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

/// Empties `/dev`, which mmdebstrap fills and a VPS gets from its host, and brings everything to the disk.
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
