//! The one table of commands: parser, help, completions and man pages all come from it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::ids::{CredentialName, TargetName, Version};

/// What every command's page ends with.
const AFTER_HELP: &str = "\
Exit status:
  0   done
  1   status: something is halted or overdue, or the last scheduled backup failed; why: no grant allows it;
      audit verify, doctor: damage was found
  64  the command line makes no sense             65  the secret given is unusable
  66  no such credential, target or file          69  the daemon does not run, or the target said no
  70  a defect of keywheel                        73  a file could not be made
  74  the disk refused                            75  not now, or in doubt: try again later
  76  the answer is not keywheel's                77  denied (fetch: or no such credential)
  78  the configuration is wrong                  130 interrupted

Environment:
  KEYWHEEL_RUNTIME_DIR  folder of the sockets, instead of /run/keywheel
  NO_COLOR              no colour, unless --color always
  TZ                    zone in which times are shown";

/// What the page of `fetch` ends with.
const AFTER_FETCH: &str = "\
Examples:
  keywheel fetch billing/db
      the password, and nothing else
  eval \"$(keywheel fetch billing/db --format env)\"
      sets BILLING_DB_USERNAME and BILLING_DB_PASSWORD; the values are quoted for any POSIX shell, newlines included
  keywheel fetch billing/db --wait 7 --timeout 1h
      the version after 7, as soon as there is one
  curl --unix-socket /run/keywheel/keywheel.sock http://localhost/v1/credentials/billing/db
      the same without this command";

/// What the page of `doctor` ends with.
const AFTER_DOCTOR: &str = "\
The daemon is stopped first (`systemctl stop keywheeld`); of a store in use only folder, key and audit log are looked
at. Nothing is changed without --repair or --accept-older. Root works as the owner of the store.

Each line begins with
  ok        all is well
  heals     the next start of the daemon mends it, and says so in its log
  damaged   the daemon will not start, or not do all it should: the help says what to do
  not seen  it could not be looked at

Exit status: 0 if all is well or heals, 1 if something is damaged, 75 if something could not be looked at.";

/// What the page of `restore` ends with.
const AFTER_RESTORE: &str = "\
Nothing that is restored is believed: keywheeld logs in with each value first and hands it out when that has succeeded.
What no longer logs in is halted; `keywheel adopt` or `keywheel reconcile` sets it right.

Example:
  keywheel restore /media/usb/keywheel.age -i /media/usb/operator.key";

/// What the page of `rekey` ends with.
const AFTER_REKEY: &str = "\
If it is interrupted, by a power cut or otherwise, give the same command again: it goes on where it was. Until then the store
opens by the old key file or by the new one, which ends in .new.

A copy of the store from before opens by the old master key as it did. Use --deep, and rotate what is in it, where somebody
may have such a copy and the key.";

/// Operates keywheeld, and fetches credentials from it.
#[derive(Debug, Parser)]
#[command(name = "keywheel", version, about, after_long_help = AFTER_HELP, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, infer_subcommands = false)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The hand-out socket [default: keywheel.sock in $KEYWHEEL_RUNTIME_DIR or /run/keywheel]
    #[arg(long, global = true, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// The operators' socket [default: control.sock in $KEYWHEEL_RUNTIME_DIR or /run/keywheel]
    #[arg(long, global = true, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub control: Option<PathBuf>,
    /// Print the daemon's reply as one JSON object; times are milliseconds since 1970 in UTC
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorWhen::Auto)]
    pub color: ColorWhen,
    /// Print nothing but what was asked for: no tables, no messages of success
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Give up after this long, e.g. 30, 30s, 5m, 1h [default: 30s; 10m where a target is asked]
    #[arg(long, global = true, value_name = "TIME", value_parser = span)]
    pub timeout: Option<Duration>,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do. One variant per command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How the daemon and its credentials are; exits with 1 if one is halted or overdue
    Status {
        /// Only these
        names: Vec<CredentialName>,
    },
    /// The credentials there are; with -q their names alone
    List,
    /// All that may be said of one credential, the settings in force included
    Show(Name),
    /// Turn credentials over now
    Rotate(Rotate),
    /// Log in afresh with the current version
    Verify(Name),
    /// Print the current version of a credential that a grant gives you
    #[command(after_long_help = AFTER_FETCH)]
    Fetch(Fetch),
    /// The versions of a credential
    History(Name),
    /// Take over a credential whose secret you know; read from standard input
    Import(Import),
    /// Take a secret that was set by hand at the target; read from standard input
    Adopt(Import),
    /// Set a fresh secret by the target's admin credential
    Reconcile(Name),
    /// Let a halted rotation go on
    Resume(Name),
    /// The accounts made for one lease each, and who holds them
    Leases {
        /// Only those of these credentials
        names: Vec<CredentialName>,
    },
    /// End a lease before its time: its account is dropped
    End {
        /// The lease, as `keywheel leases` names it
        name: CredentialName,
    },
    /// Let scheduled rotations and backups go on after the wall clock has jumped
    AcceptClock,
    /// Find all problems of a configuration; needs no daemon
    Check(Check),
    /// What is wrong with the store, the key and the audit log, and what can be done; needs no daemon
    #[command(after_long_help = AFTER_DOCTOR)]
    Doctor(Doctor),
    /// When a credential is due: the next firings and what is odd about them
    Schedule(Name),
    /// The audit log
    #[command(subcommand)]
    Audit(Audit),
    /// The kinds of targets, and the exam for new ones
    #[command(subcommand)]
    Rotator(Rotator),
    /// Which grant decides for a process, and why
    Why(Why),
    /// List a target's accounts and the credentials that manage them
    Discover {
        /// The target
        target: TargetName,
    },
    /// Read the configuration anew: all of it or nothing
    Reload,
    /// Give the daemon its passphrase; asked for, or read from standard input
    Unseal,
    /// The master key
    #[command(subcommand)]
    Key(Key),
    /// Write the whole store into one age file for the recipients in [backup]; the daemon goes on serving
    Backup(Backup),
    /// Make the store from a backup, on this host or another one; the daemon must not run
    #[command(after_long_help = AFTER_RESTORE)]
    Restore(Restore),
    /// Give the store another master key; the daemon must not run
    #[command(after_long_help = AFTER_REKEY)]
    Rekey(Rekey),
    /// What the escrow log holds; needs no daemon, and may be done on another host
    Escrow(Escrow),
    /// Encrypt standard input, for the daemon
    #[command(hide = true)]
    AgeEncrypt {
        /// As one line of base64
        #[arg(long)]
        line: bool,
    },
}

/// One credential.
#[derive(Debug, Args)]
pub struct Name {
    /// The credential
    pub name: CredentialName,
}

/// `rotate`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
pub struct Rotate {
    /// The credentials
    #[arg(group = "which", value_name = "NAME")]
    pub names: Vec<CredentialName>,
    /// All credentials of a target
    #[arg(long, group = "which")]
    pub target: Option<TargetName>,
    /// All credentials
    #[arg(long, group = "which")]
    pub all: bool,
    /// Check what can be checked without a change, and say what would happen
    #[arg(long, conflicts_with_all = ["wait", "retire_now"])]
    pub dry_run: bool,
    /// Watch until every rotation has ended; exits with 0 only if all were rotated, with 75 if some still wait. Without
    /// --timeout it watches until nothing has ended for 10 minutes
    #[arg(long)]
    pub wait: bool,
    /// End the grace of the previous version first
    #[arg(long)]
    pub retire_now: bool,
}

/// `fetch`.
#[derive(Debug, Args)]
pub struct Fetch {
    /// The credential
    pub name: CredentialName,
    /// Only this field [default for raw: password, or the only field there is]
    #[arg(long, value_name = "FIELD")]
    pub field: Option<String>,
    /// How to print it [default: raw, or json with --json]
    #[arg(long, value_enum)]
    pub format: Option<FetchFormat>,
    /// Wait for a version newer than this one, until --timeout [default: 30s]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub wait: Option<Version>,
    /// The version before as well, while it is valid too: for keys by which something is checked. Prints JSON
    #[arg(long, conflicts_with = "field")]
    pub previous: bool,
}

/// How a fetched credential is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FetchFormat {
    /// One JSON object: name, version, fields
    Json,
    /// One field's value; a newline is added on a terminal only
    Raw,
    /// NAME_FIELD='value' lines for a POSIX shell's eval
    Env,
}

/// `import` and `adopt`.
#[derive(Debug, Args)]
pub struct Import {
    /// The credential
    pub name: CredentialName,
    /// The account the secret opens, where the credential has two
    #[arg(long)]
    pub account: Option<String>,
    /// The field the secret is
    #[arg(long, default_value = "password", conflicts_with = "from_json")]
    pub field: String,
    /// Standard input is a JSON object of several fields, e.g. {"username": "app", "password": "..."}
    #[arg(long)]
    pub from_json: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The configuration file; conf.d beside it is read too
    #[arg(long, value_name = "FILE", default_value = "/etc/keywheel/keywheel.toml", value_hint = clap::ValueHint::FilePath)]
    pub config: PathBuf,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The configuration file, which says where store, key and audit log are
    #[arg(long, value_name = "FILE", default_value = "/etc/keywheel/keywheel.toml", value_hint = clap::ValueHint::FilePath)]
    pub config: PathBuf,
    /// The master key, where the configuration names a systemd credential
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub key_file: Option<PathBuf>,
    /// Mend what can be mended without losing anything; what is replaced is kept aside
    #[arg(long)]
    pub repair: bool,
    /// Mend, even at the cost of the newest commits: go on with an older copy of the store, or with a journal that was
    /// cut. Each version is then proved by a login before it is handed out
    #[arg(long)]
    pub accept_older: bool,
    /// A folder for a copy of the index (ciphertext), as large as `sled` in the store [default: the temporary folder]
    #[arg(long, value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub scratch: Option<PathBuf>,
}

/// `audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Find a changed, removed or reordered record
    Verify {
        /// Check this file, without the daemon; the links only: missing last records are found by the daemon
        #[arg(long, value_hint = clap::ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Print the last records
    Tail {
        /// How many
        #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        lines: u32,
        /// The log
        #[arg(long, default_value = "/var/log/keywheel/audit.jsonl", value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// `rotator`.
#[derive(Debug, Subcommand)]
pub enum Rotator {
    /// The kinds there are, and the settings of each
    List(RotatorPath),
    /// What one kind says of itself
    Describe {
        /// Where the built-in ones are
        #[command(flatten)]
        binary: RotatorPath,
        /// The kind, or the path of an executable
        #[arg(value_hint = clap::ValueHint::ExecutablePath)]
        kind: PathBuf,
    },
    /// Put an executable through the contract suite
    Test {
        /// Where the built-in ones are
        #[command(flatten)]
        binary: RotatorPath,
        /// The executable's path, or a kind
        #[arg(value_hint = clap::ValueHint::ExecutablePath)]
        path: PathBuf,
        /// Passed to the suite as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

/// Where the multi-call binary is.
#[derive(Debug, Args)]
pub struct RotatorPath {
    /// The multi-call binary [default: beside this command, else /usr/lib/keywheel/keywheel-rotator]
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::ExecutablePath)]
    pub rotator: Option<PathBuf>,
}

/// `why`.
#[derive(Debug, Args)]
pub struct Why {
    /// The credential
    pub name: CredentialName,
    /// The process that would fetch it
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub as_pid: i32,
}

/// `key`.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key file of 32 random bytes that only its owner can read
    Create {
        /// The file; must not exist
        #[arg(value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// `backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// The file; must not exist. With - it goes to standard output
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// Under a passphrase instead, asked for or read from standard input; for root alone
    #[arg(long)]
    pub passphrase: bool,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// File of a recipient's secret key: of age-keygen, or an SSH key. May be given more than once
    #[arg(short = 'i', long = "identity", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub identities: Vec<PathBuf>,
    /// The configuration of this host: says where the store belongs and what its master key is
    #[arg(long, value_name = "FILE", default_value = "/etc/keywheel/keywheel.toml", value_hint = clap::ValueHint::FilePath)]
    pub config: PathBuf,
    /// File of the new store's master key, made if absent [default: `file` in [key] of the configuration]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub key_file: Option<PathBuf>,
}

/// `escrow`.
#[derive(Debug, Args)]
pub struct Escrow {
    /// The log
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// Print the secrets of this credential, oldest first, one JSON object a line
    pub name: Option<CredentialName>,
    /// File of a recipient's secret key: of age-keygen, or an SSH key. May be given more than once
    #[arg(short = 'i', long = "identity", value_name = "FILE", required = true, value_hint = clap::ValueHint::FilePath)]
    pub identities: Vec<PathBuf>,
}

/// `rekey`.
#[derive(Debug, Args)]
pub struct Rekey {
    /// Another store key too: everything is sealed anew, beside the old store, which is removed then
    #[arg(long)]
    pub deep: bool,
    /// The configuration: says where the store and its master key are
    #[arg(long, value_name = "FILE", default_value = "/etc/keywheel/keywheel.toml", value_hint = clap::ValueHint::FilePath)]
    pub config: PathBuf,
    /// File of the present master key [default: `file` in [key] of the configuration]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub key_file: Option<PathBuf>,
    /// File of the new master key, made if absent [default: a new one that takes the place of the present file]
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase", value_hint = clap::ValueHint::FilePath)]
    pub new_key: Option<PathBuf>,
    /// A passphrase in the place of a key file; asked for. To keep using a passphrase, this can be left out
    #[arg(long)]
    pub new_passphrase: bool,
}

/// The longest `--timeout`, in seconds: a day.
const SPAN_SECONDS_MAX: u64 = 86_400;

fn span(text: &str) -> Result<Duration, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    match seconds {
        Some(seconds @ 1..=SPAN_SECONDS_MAX) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err("a time is at least a second and at most a day".to_owned()),
        None => Err("a time is a whole number of seconds, or one with s, m or h behind it".to_owned()),
    }
}

fn version(text: &str) -> Result<Version, String> {
    text.parse().map(Version).map_err(|_| "a version is a whole number".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_table_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_units_and_limits() {
        for (text, seconds) in [("1", 1), ("30", 30), ("30s", 30), ("5m", 300), ("24h", 86_400)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0", "s", "-1", "1d", "25h", "1.5", "99999999999999999999", "307445734561825861m", "3ß"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rotate_wants_exactly_one_way_to_choose() {
        for (line, good) in [
            ("keywheel rotate a b", true),
            ("keywheel rotate --all", true),
            ("keywheel rotate --target t", true),
            ("keywheel rotate", false),
            ("keywheel rotate a --all", false),
            ("keywheel rotate --all --target t", false),
            ("keywheel rotate a --dry-run --wait", false),
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), good, "{line}");
        }
    }

    /// Every command in the table, with the path that leads to it.
    fn walk(command: &clap::Command, visit: &mut dyn FnMut(&clap::Command)) {
        visit(command);
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            walk(sub, visit);
        }
    }

    #[test]
    fn every_flag_has_help_and_stands_in_help_and_man_page() {
        let mut root = Cli::command();
        root.build();
        walk(&root, &mut |command| {
            let mut page = Vec::new();
            clap_mangen::Man::new(command.clone()).render(&mut page).expect("rendered");
            let page = String::from_utf8(page).expect("text").replace("\\-", "-");
            let help = command.clone().render_long_help().to_string();
            assert!(command.get_about().is_some(), "{} says nothing of itself", command.get_name());
            for flag in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                assert!(flag.get_help().is_some(), "{} of {} has no help", flag.get_id(), command.get_name());
                if let Some(long) = flag.get_long() {
                    let long = format!("--{long}");
                    assert!(help.contains(&long), "{long} is not in the help of {}", command.get_name());
                    assert!(page.contains(&long), "{long} is not in the man page of {}", command.get_name());
                }
            }
        });
    }
}
