//! Removes a tree of files, of any depth.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;

use insula_sys::walk::Position;
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

/// Removes the file or directory of this name, with all that is in it. It is no error if it is gone already.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    if unlink(parent, name)? {
        return Ok(());
    }
    let mut position = Position::at(parent.try_clone_to_owned()?);
    position.descend(name)?;
    // For each directory that is being emptied: its name, and the names of the files that are still in it.
    let mut levels: Vec<(CString, Vec<CString>)> = vec![(name.to_owned(), position.names()?)];
    while let Some((_, names)) = levels.last_mut() {
        match names.pop() {
            Some(name) => {
                if !unlink(&position.here, &name)? {
                    position.descend(&name)?;
                    levels.push((name, position.names()?));
                }
            }
            None => {
                position.ascend()?;
                if let Some((name, _)) = levels.pop() {
                    absent_is_well(unlinkat(&position.here, &name, AtFlags::REMOVEDIR))?;
                }
            }
        }
    }
    Ok(())
}

/// Removes a file that is no directory. `false` if it is a directory.
fn unlink(parent: impl std::os::fd::AsFd, name: &CStr) -> io::Result<bool> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => Ok(false),
        result => absent_is_well(result).map(|()| true),
    }
}

fn absent_is_well(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => Ok(result?),
    }
}
