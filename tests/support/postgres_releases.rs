//! Where the server programs of each release of PostgreSQL are, and as whom they run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use std::os::unix::process::CommandExt;

/// A release of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The newest that is installed.
    Installed,
    /// An older one that `packaging/test-newer.sh` has unpacked.
    Older,
    /// A newer one, from the same script.
    Newer,
}

impl Release {
    /// What a test starts that asks for no release: `KEYWHEEL_POSTGRESQL=newer` or `older` has all of them try that one.
    pub fn wanted() -> Self {
        match std::env::var("KEYWHEEL_POSTGRESQL").as_deref() {
            Ok("newer") => Self::Newer,
            Ok("older") => Self::Older,
            _ => Self::Installed,
        }
    }

    /// Whether it is here and runs; says so if not.
    pub fn is_here(self) -> bool {
        let here = self.folder().join("initdb").exists()
            && self.command("initdb").arg("--version").output().is_ok_and(|output| output.status.success());
        if !here {
            let which = if self == Self::Older { "older" } else { "newer" };
            let words =
                format!("skipped: no {which} PostgreSQL is here or runs here; packaging/test-newer.sh fetches one\n");
            let _ = io::Write::write_all(&mut io::stderr(), words.as_bytes());
        }
        here
    }

    /// The path of one of its programs.
    pub fn program(self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// One of its programs, to be run as the server's user.
    pub fn command(self, name: &str) -> Command {
        let program = self.program(name);
        let mut command = if self == Self::Installed {
            let mut command = Command::new(program);
            if let Some((user, group)) = self.server_user() {
                command.uid(user).gid(group);
            }
            command
        } else {
            // What is unpacked may be in a folder that only its owner can enter: PostgreSQL only has to think that it is another user.
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-user=nobody", "--map-group=nogroup"]).arg(program);
            command
        };
        command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        command
    }

    /// Whom the server's files belong to, if that is not who runs the test.
    pub fn server_user(self) -> Option<(u32, u32)> {
        let id = |args: &[&str]| -> Option<u32> {
            let output = Command::new("id").args(args).stderr(Stdio::null()).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        if self != Self::Installed || id(&["-u"]) != Some(0) {
            return None;
        }
        ["postgres", "nobody"].iter().find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)))
    }

    fn folder(self) -> PathBuf {
        let unpacked = |name: &str| {
            let tree = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|folder| folder.join(".cache").exists());
            tree.unwrap_or(Path::new("/")).join(".cache").join(name).join("bin-of-postgres")
        };
        match self {
            Self::Installed => installed(),
            Self::Older => unpacked("postgres-older"),
            Self::Newer => unpacked("postgres-newer"),
        }
    }
}

/// The newest installed set of server programs: Debian keeps them out of `PATH`.
fn installed() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop().map(|(_, bin)| bin).unwrap_or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .find(|folder| folder.join("initdb").exists())
            .expect("PostgreSQL is installed (apt-get install postgresql)")
    })
}
