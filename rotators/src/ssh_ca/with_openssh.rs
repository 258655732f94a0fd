//! What OpenSSH itself says of certificates that are signed here.

#[path = "../../../tests/support/sshd.rs"]
mod sshd;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use keywheel_protocol::Secret;
use sshd::Sshd;

use super::authority::{Authority, Unusable};
use super::certificate::{Kind, Refused, Terms, sign};

const NONCE: [u8; 32] = [7; 32];

struct Pair {
    private: String,
    public: String,
}

/// A pair that ssh-keygen makes, with a number of bits behind its type if not the usual one.
fn pair(folder: &Path, kind: &str) -> Pair {
    let path = folder.join("made");
    let (kind, bits) = kind.split_once(' ').unwrap_or((kind, ""));
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", kind, "-N", "", "-C", "a comment", "-f"]).arg(&path);
    if !bits.is_empty() {
        keygen.args(["-b", bits]);
    }
    assert!(keygen.status().expect("ssh-keygen runs").success());
    let taken = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a key");
        fs::remove_file(path).expect("removed");
        text
    };
    Pair { private: taken(path.clone()), public: taken(path.with_extension("pub")).trim().to_owned() }
}

fn authority(pair: &Pair) -> Authority {
    Authority::read(&Secret::new(pair.private.clone())).expect("an authority")
}

#[expect(clippy::disallowed_methods, reason = "a test's clock")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn terms<'a>(kind: Kind, principals: &'a [&'a str]) -> Terms<'a> {
    let valid = now() - 60..now() + 60;
    Terms {
        kind,
        serial: u64::MAX,
        key_id: "a key id",
        principals,
        valid,
        critical_options: BTreeMap::new(),
        extensions: BTreeMap::new(),
    }
}

/// What `ssh-keygen -L` prints, by lines without their indent.
fn listed(folder: &Path, certificate: &str) -> Vec<String> {
    let path = folder.join("listed-cert.pub");
    fs::write(&path, certificate).expect("written");
    let output = Command::new("ssh-keygen").arg("-Lf").arg(&path).env("TZ", "UTC").output().expect("ssh-keygen runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn ssh_keygen_reads_each_type_signed_by_each_type() {
    let folder = tempfile::tempdir().expect("a folder");
    let kinds = ["ed25519", "ecdsa", "ecdsa 384", "ecdsa 521", "rsa 2048"];
    let pairs: Vec<Pair> = kinds.iter().map(|kind| pair(folder.path(), kind)).collect();
    for (kind, signer) in kinds.iter().zip(&pairs) {
        let ca = authority(signer);
        assert!(signer.public.starts_with(&ca.line()), "{kind}");
        for subject in &pairs {
            let mut terms = terms(Kind::User, &["app", "ops"]);
            terms.valid = 1_700_000_000..1_700_003_600;
            terms.critical_options = BTreeMap::from([("source-address", "10.0.0.0/8"), ("force-command", "true")]);
            terms.extensions = BTreeMap::from([("permit-pty", ""), ("permit-X11-forwarding", "")]);
            let certificate = sign(&ca, &subject.public, &terms, &NONCE).expect("signed");
            let lines = listed(folder.path(), &certificate);
            let name = subject.public.split(' ').next().expect("a type");
            assert_eq!(lines[0], format!("Type: {name}-cert-v01@openssh.com user certificate"));
            let by = &lines[2];
            let algorithm = match *kind {
                "rsa 2048" => "(using rsa-sha2-512)".to_owned(),
                _ => format!("(using {})", signer.public.split(' ').next().expect("a type")),
            };
            assert!(by.starts_with("Signing CA: ") && by.ends_with(&algorithm), "{by}");
            let rest = [
                "Key ID: \"a key id\"",
                "Serial: 18446744073709551615",
                "Valid: from 2023-11-14T22:13:20 to 2023-11-14T23:13:20",
                "Principals:",
                "app",
                "ops",
                "Critical Options:",
                "force-command true",
                "source-address 10.0.0.0/8",
                "Extensions:",
                "permit-X11-forwarding",
                "permit-pty",
            ];
            assert_eq!(lines[3..], rest);
        }
    }
    let lines = listed(
        folder.path(),
        &sign(&authority(&pairs[0]), &pairs[0].public, &terms(Kind::Host, &["web.example"]), &NONCE).expect("signed"),
    );
    assert_eq!(lines[0], "Type: ssh-ed25519-cert-v01@openssh.com host certificate");
    assert!(lines.ends_with(&["Critical Options: (none)".to_owned(), "Extensions: (none)".to_owned()]), "{lines:?}");
}

/// Many keys: numbers that begin with a zero, or with a bit that looks like a sign, come up among them.
#[test]
fn keys_and_signatures_that_begin_with_zeros_are_written_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let subject = pair(folder.path(), "ed25519").public;
    let mut certificates = String::new();
    for round in 0..300_u64 {
        let ca = authority(&pair(folder.path(), "ecdsa"));
        for serial in 0..4 {
            let mut terms = terms(Kind::User, &["app"]);
            terms.serial = round * 4 + serial;
            certificates.push_str(&sign(&ca, &subject, &terms, &NONCE).expect("signed"));
            certificates.push('\n');
        }
    }
    // It checks each signature as it reads.
    let lines = listed(folder.path(), &certificates);
    assert_eq!(lines.iter().filter(|line| line.starts_with("Serial: ")).count(), 1200);
}

/// Makes the terms other ones.
type Change = fn(&mut Terms<'_>);

struct Stage {
    server: Sshd,
    account: String,
    ca: Pair,
    subject: Pair,
}

impl Stage {
    fn new(kind: &str, more: &str) -> Self {
        let server = Sshd::start_with(&format!("TrustedUserCAKeys {{scratch}}/ca.pub\n{more}"));
        let ca = pair(&server.at("."), kind);
        fs::write(server.at("ca.pub"), &ca.public).expect("written");
        let account = server.account("unused-Password-1");
        let subject = pair(&server.at("."), "ed25519");
        Self { server, account, ca, subject }
    }

    /// Logs in with a certificate and prints a word.
    fn ssh(&self, certificate: &str) -> Output {
        let key = self.server.at("subject");
        fs::write(&key, &self.subject.private).expect("written");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("mode");
        fs::write(self.server.at("subject-cert.pub"), certificate).expect("written");
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"]);
        ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-p", &self.server.port.to_string(), "-i"]).arg(&key);
        ssh.arg(format!("{}@127.0.0.1", self.account)).args(["echo", "in"]).output().expect("ssh runs")
    }

    fn logs_in(&self, ca: &Authority, change: impl FnOnce(&mut Terms<'_>)) -> bool {
        let principals = [self.account.as_str()];
        let mut terms = terms(Kind::User, &principals);
        change(&mut terms);
        let output = self.ssh(&sign(ca, &self.subject.public, &terms, &NONCE).expect("signed"));
        output.status.success() && output.stdout == b"in\n"
    }
}

#[test]
fn sshd_lets_in_whom_the_certificate_names_while_it_is_valid_and_nobody_else() {
    let stage = Stage::new("rsa", "");
    let ca = authority(&stage.ca);
    assert!(stage.logs_in(&ca, |_| {}), "{}", stage.server.log());
    let refusals: [(&str, Change); 3] = [
        ("name is not a listed principal", |terms| terms.principals = &["somebody"]),
        ("Certificate invalid: expired", |terms| terms.valid = now() - 120..now() - 60),
        ("Certificate invalid: not yet valid", |terms| terms.valid = now() + 60..now() + 120),
    ];
    for (words, change) in refusals {
        assert!(!stage.logs_in(&ca, change), "{words}");
        assert!(stage.server.log().contains(words), "{words}: {}", stage.server.log());
    }
    assert!(!stage.logs_in(&ca, |terms| terms.kind = Kind::Host));
    let stranger = authority(&pair(&stage.server.at("."), "ed25519"));
    assert!(!stage.logs_in(&stranger, |_| {}), "another authority");
    assert!(stage.logs_in(&ca, |terms| terms.extensions = BTreeMap::from([("permit-pty", "")])));
    assert!(!stage.logs_in(&ca, |terms| terms.critical_options = BTreeMap::from([("force-command", "echo out")])));
    assert!(!stage.logs_in(&ca, |terms| terms.critical_options = BTreeMap::from([("source-address", "10.0.0.0/8")])));
    assert!(!stage.logs_in(&ca, |terms| terms.critical_options = BTreeMap::from([("nobody-knows", "")])));
}

#[test]
fn sshd_takes_each_type_of_authority_and_lists_of_principals() {
    for kind in ["ed25519", "ecdsa", "ecdsa 384", "ecdsa 521"] {
        let stage = Stage::new(kind, "StrictModes no\nAuthorizedPrincipalsFile {scratch}/principals");
        fs::write(stage.server.at("principals"), "# who may\noperators\n").expect("written");
        let ca = authority(&stage.ca);
        assert!(
            stage.logs_in(&ca, |terms| terms.principals = &["others", "operators"]),
            "{kind}: {}",
            stage.server.log()
        );
        assert!(!stage.logs_in(&ca, |_| {}), "{kind}: the list counts, not the account's name");
    }
}

#[test]
fn ssh_believes_a_host_by_its_certificate_and_no_other_name() {
    let stage = Stage::new("ecdsa", "HostKey {scratch}/host_ed25519\nHostCertificate {scratch}/host-cert.pub");
    let ca = authority(&stage.ca);
    let host = fs::read_to_string(stage.server.at("host_ed25519.pub")).expect("a key");
    stage.server.authorize(&stage.account, &format!("{}\n", stage.subject.public));
    let key = stage.server.at("subject");
    fs::write(&key, &stage.subject.private).expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("mode");
    let line = format!("@cert-authority *.test.example {}\n", stage.ca.public);
    fs::write(stage.server.at("known"), line).expect("written");
    let mut server = stage.server;
    let mut believed = |principal: &str| {
        let certificate = sign(&ca, &host, &terms(Kind::Host, &[principal]), &NONCE).expect("signed");
        fs::write(server.at("host-cert.pub"), certificate).expect("written");
        server.kill();
        server.start_again();
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"]);
        ssh.args(["-o", "GlobalKnownHostsFile=none", "-o", "HostKeyAlias=web.test.example", "-o"]);
        ssh.arg(format!("UserKnownHostsFile={}", server.at("known").display())).arg("-i").arg(&key);
        ssh.args(["-p", &server.port.to_string()]).arg(format!("{}@127.0.0.1", stage.account));
        ssh.arg("true").output().expect("ssh runs")
    };
    let output = believed("web.test.example");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = believed("mail.test.example");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && words.contains("name is not a listed principal"), "{words}");
}

#[test]
fn what_would_open_too_much_or_nothing_is_not_signed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, subject) = (authority(&pair(folder.path(), "ed25519")), pair(folder.path(), "ed25519").public);
    let refused = |public: &str, change: Change| {
        let mut terms = terms(Kind::User, &["app"]);
        change(&mut terms);
        sign(&ca, public, &terms, &NONCE).expect_err("refused")
    };
    assert_eq!(refused(&subject, |terms| terms.principals = &[]), Refused::Principals);
    assert_eq!(refused(&subject, |terms| terms.principals = &["app", ""]), Refused::Principals);
    assert_eq!(refused(&subject, |terms| terms.principals = &["app\nroot"]), Refused::Principals);
    assert_eq!(refused(&subject, |terms| terms.valid = 5..5), Refused::Validity);
    let words: Vec<&str> = subject.split(' ').collect();
    let certificate = sign(&ca, &subject, &terms(Kind::User, &["app"]), &NONCE).expect("signed");
    let odd = [
        "hunter2".to_owned(),
        "ssh-ed25519 AAAA".to_owned(),
        format!("restrict {subject}"),
        format!("ssh-rsa {}", words[1]),
        format!("ssh-ed25519 {}AAAA", words[1]),
        certificate,
    ];
    for public in odd {
        assert_eq!(refused(&public, |_| {}), Refused::PublicKey, "{public}");
    }
    let weak = Authority::read(&Secret::new(pair(folder.path(), "rsa 1024").private)).err().expect("refused");
    assert_eq!(weak, Unusable::Kind("ssh-rsa with 1024 bits".to_owned()));
}

#[test]
fn a_key_whose_halves_do_not_belong_together_is_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    for kind in ["ed25519", "ecdsa", "rsa 2048"] {
        let text = pair(folder.path(), kind).private;
        let whole = Authority::read(&Secret::new(text.clone()));
        assert!(whole.is_ok(), "{kind}");
        // One digit of base64 in the middle of each line: somewhere it hits each part.
        let mut damaged = 0;
        let lines: Vec<&str> = text.lines().collect();
        for (place, line) in lines.iter().enumerate().take(lines.len() - 1).skip(1) {
            let middle = line.len() / 2;
            let other = if line.as_bytes()[middle] == b'A' { "B" } else { "A" };
            let line = format!("{}{other}{}", &line[..middle], &line[middle + 1..]);
            let mut changed = lines.clone();
            changed[place] = &line;
            damaged += usize::from(Authority::read(&Secret::new(changed.join("\n"))).is_err());
        }
        assert!(damaged > 0, "{kind}");
    }
}
