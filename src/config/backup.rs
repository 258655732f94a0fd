//! `[backup]` and `[escrow]`.

use std::path::PathBuf;
use std::time::Duration;

use super::section::{Notes, Section};
use crate::schedule::{Missed, Rhythm, Schedule, Spec};
use crate::time::Timestamp;

/// Recipients there may be.
const RECIPIENTS_MAX: usize = 32;

/// Scheduled backups that may be kept.
const KEEP_MAX: i64 = 1000;

/// The letters of bech32, each worth its place (BIP 173).
const BECH32: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// `[backup]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Who can open a backup: `age1…`, `ssh-ed25519 …`, `ssh-rsa …`. May be empty.
    pub recipients: Vec<String>,
    /// The command, which encrypts; default `/usr/bin/keywheel`.
    pub command: PathBuf,
    /// Backups that the daemon makes by itself.
    pub plan: Option<BackupPlan>,
}

/// `[escrow]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escrow {
    /// Who can read the log. At least one.
    pub recipients: Vec<String>,
    /// The log.
    pub file: PathBuf,
}

/// Backups that the daemon makes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupPlan {
    /// When: can be made a schedule of.
    pub when: Spec,
    /// Where they go.
    pub directory: PathBuf,
    /// How many of them stay.
    pub keep: usize,
}

/// Reads the section.
pub(super) fn read(notes: &Notes, section: Option<&Section>, now: Timestamp) -> Backup {
    let default = PathBuf::from("/usr/bin/keywheel");
    let Some(section) = section else { return Backup { recipients: Vec::new(), command: default, plan: None } };
    let recipients = recipients(notes, section);
    let command = section.path("command").unwrap_or(default);
    let plan = plan(notes, section, now);
    if let Some(node) = section.node("schedule").filter(|_| section.node("recipients").is_none()) {
        let help =
            "name `recipients`: `age-keygen -o FILE` makes a key pair, whose file belongs off this host".to_owned();
        notes.problem(&node.place, "scheduled backups need somebody who can open them", help);
    }
    section.finish(&[]);
    Backup { recipients, command, plan }
}

fn plan(notes: &Notes, section: &Section, now: Timestamp) -> Option<BackupPlan> {
    let directory = section.path("directory");
    let keep = section.count("keep", 1..=KEEP_MAX);
    let zone = section.text("zone").map(|(zone, _)| zone.to_owned());
    let (cron, place) = section.text("schedule")?;
    let when = Spec {
        rhythm: Rhythm::Cron(cron.to_owned()),
        zone,
        window: None,
        jitter: Duration::ZERO,
        missed: Missed::Asap,
        spread: Duration::ZERO,
    };
    if let Err(error) = Schedule::new(when.clone(), now) {
        notes.problem(place, error.to_string(), error.remedy());
        return None;
    }
    let Some(directory) = directory else {
        if section.node("directory").is_none() {
            let help = "name a folder of their own, such as `directory = \"/var/lib/keywheel/backups\"`".to_owned();
            notes.problem(place, "scheduled backups need a `directory`", help);
        }
        return None;
    };
    Some(BackupPlan { when, directory, keep: keep.unwrap_or(14) })
}

/// Reads `[escrow]`.
pub(super) fn escrow(notes: &Notes, section: Option<&Section>) -> Option<Escrow> {
    let section = section?;
    let recipients = recipients(notes, section);
    let file = section.path("file");
    for (key, help) in [
        ("recipients", "`age-keygen -o FILE` makes a key pair, whose file belongs off this host"),
        ("file", "such as `file = \"/var/lib/keywheel/escrow.log\"`; have it copied off this host"),
    ] {
        if section.node(key).is_none() {
            notes.problem(&section.place, format!("`{key}` is missing"), help.to_owned());
        }
    }
    section.finish(&[]);
    Some(Escrow { recipients, file: file? }).filter(|escrow| !escrow.recipients.is_empty())
}

/// The recipients of a section, each looked at as far as that goes without age.
pub(super) fn recipients(notes: &Notes, section: &Section) -> Vec<String> {
    let mut all = Vec::new();
    for (text, place) in section.texts("recipients") {
        if all.len() == RECIPIENTS_MAX {
            notes.problem(place, format!("there are more than {RECIPIENTS_MAX} recipients"), None);
            break;
        }
        if text.starts_with("AGE-SECRET-KEY-") || text.contains("PRIVATE KEY") {
            let help =
                "write its public half: `age-keygen -y FILE` prints it. This one is known to others now".to_owned();
            notes.problem(place, "this is a secret key, which never stands in a configuration", help);
        } else if is_age(text) || is_ssh(text) {
            all.push(text.to_owned());
        } else {
            let help = "it looks like \"age1…\" (62 characters, `age-keygen -y FILE` prints it), or like a line of \
                        authorized_keys: \"ssh-ed25519 AAAA…\" or \"ssh-rsa AAAA…\"";
            notes.problem(place, "this is no recipient of age, or mistyped", help.to_owned());
        }
    }
    all
}

/// Whether this is `age1`, 52 letters of a key and 6 of a checksum that is right.
fn is_age(text: &str) -> bool {
    let Some(data) = text.strip_prefix("age1").filter(|data| data.len() == 58) else { return false };
    // The name "age" in the checksum's own spelling: high bits, a zero, low bits.
    let mut sum = [3, 3, 3, 0, 1, 7, 5].into_iter().fold(1, step);
    for letter in data.chars() {
        let Some(worth) = BECH32.find(letter) else { return false };
        sum = step(sum, worth as u32);
    }
    sum == 1
}

/// One step of the checksum (BIP 173).
fn step(sum: u32, worth: u32) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let shifted = (sum & 0x1ff_ffff) << 5 ^ worth;
    (0..5).filter(|bit| sum >> 25 >> bit & 1 == 1).fold(shifted, |sum, bit| sum ^ GENERATOR[bit])
}

/// Whether this is a public key of a kind that age takes.
fn is_ssh(text: &str) -> bool {
    let mut words = text.split(' ');
    let (kind, key) = (words.next(), words.next().unwrap_or_default());
    let base64 = key.chars().all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c));
    match kind {
        Some("ssh-ed25519") => base64 && key.len() == 68 && key.starts_with("AAAAC3NzaC1lZDI1NTE5AAAAI"),
        Some("ssh-rsa") => base64 && key.len() >= 300 && key.starts_with("AAAAB3NzaC1yc2E"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recipient of age's own documentation.
    const AGE: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn a_mistyped_letter_of_a_recipient_is_noticed() {
        assert!(is_age(AGE));
        for at in 4..AGE.len() {
            let mut typed = AGE.to_owned();
            let other = if &typed[at..=at] == "q" { "p" } else { "q" };
            typed.replace_range(at..=at, other);
            assert!(!is_age(&typed), "{typed}");
        }
        for odd in ["", "age1", &AGE[..61], &format!("{AGE}q"), &AGE.to_uppercase(), "age1ä"] {
            assert!(!is_age(odd), "{odd}");
        }
    }

    #[test]
    fn ssh_keys_of_the_two_kinds_are_recipients_and_others_are_not() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
        assert!(is_ssh(key) && is_ssh(&format!("{key} anna@desk")));
        for odd in [&key[..60], "ssh-ed25519", "ssh-rsa AAAAB3NzaC1yc2E", "ecdsa-sha2-nistp256 AAAA"] {
            assert!(!is_ssh(odd), "{odd}");
        }
    }
}
