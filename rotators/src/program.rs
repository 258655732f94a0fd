//! Executables that were dropped in: which of them are run.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

/// Where a script's commands are looked for.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why an executable is not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// The path depends on where the caller stands.
    #[error("{} must begin with a slash", .0.display())]
    Relative(PathBuf),
    /// It can't be looked at.
    #[error("{path} can't be run: {error}", path = .0.display(), error = .1)]
    Unreadable(PathBuf, #[source] io::Error),
    /// A folder, a device, or not executable.
    #[error("{} is no executable file; chmod 0755 makes a script one", .0.display())]
    NotExecutable(PathBuf),
    /// Someone else could change what it does.
    #[error("{} can be changed by others than root and the user who runs it; chown it to root and chmod 0755", .0.display())]
    Exposed(PathBuf),
}

/// Checks that `path` is an executable file that only root and the caller can change.
///
/// # Errors
/// Every [`ProgramError`].
pub(crate) fn check(path: &Path) -> Result<(), ProgramError> {
    if !path.is_absolute() {
        return Err(ProgramError::Relative(path.to_owned()));
    }
    let found = fs::metadata(path).map_err(|error| ProgramError::Unreadable(path.to_owned(), error))?;
    if !found.is_file() || found.mode() & 0o111 == 0 {
        return Err(ProgramError::NotExecutable(path.to_owned()));
    }
    if is_exposed(&found) {
        return Err(ProgramError::Exposed(path.to_owned()));
    }
    Ok(())
}

fn is_exposed(found: &Metadata) -> bool {
    let trusted = found.uid() == 0 || found.uid() == Uid::effective().as_raw();
    !trusted || found.mode() & 0o002 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_what_others_cannot_change_is_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rotator");
        fs::write(&path, "#!/bin/sh\n").expect("written");
        let with_mode = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
            check(&path)
        };
        assert!(matches!(with_mode(0o644), Err(ProgramError::NotExecutable(_))));
        assert!(matches!(with_mode(0o757), Err(ProgramError::Exposed(_))));
        assert!(with_mode(0o755).is_ok());
        assert!(matches!(check(folder.path()), Err(ProgramError::NotExecutable(_))));
        assert!(matches!(check(Path::new("rotator")), Err(ProgramError::Relative(_))));
    }
}
