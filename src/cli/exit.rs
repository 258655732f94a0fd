//! How the command ends: sysexits(3), so that scripts can tell a typo from a denial from bad weather.

use std::process::ExitCode;

/// The exit codes of `keywheel`.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// What was looked at is not well: `status`, `audit verify`, `why`, `doctor`.
    Unwell = 1,
    /// `EX_USAGE`: the command line makes no sense.
    Usage = 64,
    /// `EX_DATAERR`: the input can't be used.
    Data = 65,
    /// `EX_NOINPUT`: no such credential, target or file.
    NoInput = 66,
    /// `EX_UNAVAILABLE`: the daemon does not run, or the target said no.
    Unavailable = 69,
    /// `EX_SOFTWARE`: a defect.
    Software = 70,
    /// `EX_CANTCREAT`: a file could not be made.
    CantCreate = 73,
    /// `EX_IOERR`: reading or writing failed.
    Io = 74,
    /// `EX_TEMPFAIL`: not now, or in doubt.
    TempFail = 75,
    /// `EX_PROTOCOL`: the other side does not speak our language.
    Protocol = 76,
    /// `EX_NOPERM`: not allowed.
    NoPerm = 77,
    /// `EX_CONFIG`: the configuration is wrong.
    Config = 78,
    /// 128 and the number of SIGINT, as shells have it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
