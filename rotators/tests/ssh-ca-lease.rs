//! Leases of the ssh-ca rotator: certificates, against a real OpenSSH server that trusts the authority, with real accounts.

#[path = "../../tests/support/sshd.rs"]
mod sshd;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use keywheel_protocol::{By, Fields, Login, Reason, Reply, Request, Secret, Step};
use serde_json::json;
use sshd::Sshd;
use support::{Place, no, yes};

/// A host whose sshd trusts the authorities in a file, an admin who uses sudo there, and an account.
struct Host {
    server: Sshd,
    folder: tempfile::TempDir,
    admin: String,
    account: String,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pub");
        let server = Sshd::start_with(&format!("TrustedUserCAKeys {}", file.display()));
        let (admin, account) = (server.account("marker-Admin-1"), server.account("unused-Password-1"));
        fs::write(format!("/etc/sudoers.d/{admin}"), format!("{admin} ALL=(root) NOPASSWD: /bin/sh\n"))
            .expect("a rule");
        Self { server, folder, admin, account }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pub")
    }

    fn place(&self) -> Place {
        let target = json!({ "host": "127.0.0.1", "port": self.server.port, "host_key": self.server.fingerprint,
                             "sudo": true, "trusted_keys": self.file() });
        Place::new("ssh-ca", target).credential("account", self.account.clone())
    }

    fn admin(&self) -> Option<Login> {
        let fields = Fields::login(&self.admin, Secret::new("marker-Admin-1".to_owned()));
        Some(Login { by: By::Admin, fields })
    }

    fn pair(&self) -> (String, String) {
        self.server.key_pair("ed25519")
    }

    fn ask(&self, place: &Place, step: Step, pair: &(String, String)) -> Reply {
        let subject = Some(fields(&self.account, pair));
        place.ask(&Request { subject, login: self.admin(), ..place.request(step, None, None) })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_file(format!("/etc/sudoers.d/{}", self.admin));
    }
}

fn fields(account: &str, (private, public): &(String, String)) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in [("username", account), ("private_key", private), ("public_key", public)] {
        fields.insert(name, Secret::new(value.to_owned()));
    }
    fields
}

/// Whether OpenSSH's own client gets in with a key and a certificate.
fn gets_in(host: &Host, account: &str, private: &str, certificate: &str) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    fs::write(&key, private).expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("mode");
    fs::write(folder.path().join("key-cert.pub"), certificate).expect("written");
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"]);
    ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-p", &host.server.port.to_string(), "-i"]).arg(&key);
    ssh.arg(format!("{account}@127.0.0.1")).arg("true").output().expect("ssh runs").status.success()
}

#[test]
fn a_private_key_of_one_long_line_is_refused_and_kills_no_worker() {
    let host = Host::new();
    let (private, _) = host.pair();
    let lines: Vec<&str> = private.lines().collect();
    let long = format!("{}\n{}\n{}\n", lines[0], lines[1..lines.len() - 1].concat(), lines[lines.len() - 1]);
    let mut fields = Fields::new();
    fields.insert("username", Secret::new(host.admin.clone()));
    fields.insert("private_key", Secret::new(long));
    let place = host.place();
    let subject = Some(self::fields(&host.account, &host.pair()));
    let login = Some(Login { by: By::Admin, fields });
    let reply = place.ask(&Request { subject, login, ..place.request(Step::Apply, None, None) });
    assert!(no(reply, Reason::Unsupported).contains("characters"));
}

/// Issues a certificate; its text, on the pair.
fn issue(place: &Place, ca: &(String, String), pair: &(String, String)) -> Fields {
    let login = Some(Login { by: By::Admin, fields: fields("ca", ca) });
    let subject = Some(fields("ignored", pair));
    let reply = place.ask(&Request { subject, login, ..place.request(Step::Apply, None, None) });
    let Reply::Yes(issued) = reply else { panic!("{reply:?}") };
    issued.fields.expect("fields")
}

fn listed(certificate: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cert.pub");
    fs::write(&path, certificate).expect("written");
    let output = Command::new("ssh-keygen").arg("-Lf").arg(&path).output().expect("ssh-keygen runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_certificate_of_a_lease_opens_what_it_names_as_long_as_it_says_and_nothing_else() {
    let host = Host::new();
    let [ca, stranger, pair] = [0, 1, 2].map(|_| host.pair());
    yes(host.ask(&host.place(), Step::Apply, &ca));
    let leased = |seconds: u64| {
        host.place()
            .credential("strategy", "ephemeral")
            .credential("accounts", json!([host.account, format!("{}_x", host.account)]))
            .credential("expires_in_s", seconds)
    };
    let place = leased(3600);
    let issued = issue(&place, &ca, &pair);
    let certificate = issued.get("certificate").expect("a certificate").expose().to_owned();
    assert_eq!(issued.username(), Some(host.account.as_str()));
    let said = listed(&certificate);
    assert!(said.contains("user certificate") && said.contains(&host.account) && said.contains("permit-pty"), "{said}");
    assert!(gets_in(&host, &host.account, &pair.0, &certificate));
    assert!(!gets_in(&host, &host.admin, &pair.0, &certificate), "another account");
    let proved = Request { subject: Some(issued), ..place.request(Step::Verify, None, None) };
    yes(place.ask(&proved));
    let early = Request { subject: Some(fields("x", &pair)), ..place.request(Step::Verify, None, None) };
    no(place.ask(&early), Reason::Credential);
    let by_stranger = issue(&place, &stranger, &pair);
    assert!(!gets_in(&host, &host.account, &pair.0, by_stranger.get("certificate").expect("one").expose()));
    let short = issue(&leased(1), &ca, &pair);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!gets_in(&host, &host.account, &pair.0, short.get("certificate").expect("one").expose()), "expired");
}

#[test]
fn a_host_certificate_is_taken_by_a_client_that_trusts_the_authority() {
    let scratch = tempfile::tempdir().expect("a folder");
    let certificate = scratch.path().join("host-cert.pub");
    let key = scratch.path().join("host");
    let keygen = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(keygen.expect("ssh-keygen runs").success());
    let read = |path: &Path| fs::read_to_string(path).expect("a key").trim().to_owned();
    let pair = (fs::read_to_string(&key).expect("a key"), read(&key.with_extension("pub")));
    // The server reads both when it starts, so the certificate is issued before.
    let helper = Sshd::start();
    let ca = helper.key_pair("ed25519");
    let place =
        Place::new("ssh-ca", json!({ "host": "127.0.0.1", "port": helper.port, "host_key": helper.fingerprint }))
            .credential("strategy", "ephemeral")
            .credential("accounts", json!(["host", "host_x"]))
            .credential("certificate", "host")
            .credential("principals", "db.example.net, 127.0.0.1")
            .credential("expires_in_s", 600);
    let issued = issue(&place, &ca, &pair);
    fs::write(&certificate, issued.get("certificate").expect("a certificate").expose()).expect("written");
    assert!(listed(&fs::read_to_string(&certificate).expect("read")).contains("host certificate"));
    let server = Sshd::start_with(&format!("HostKey {}\nHostCertificate {}", key.display(), certificate.display()));
    let known = scratch.path().join("known_hosts");
    let client = |authority: &str| {
        fs::write(&known, format!("@cert-authority * {authority}\n")).expect("written");
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com",
        ]);
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display())).args(["-p", &server.port.to_string()]);
        let output = ssh.arg("nobody@127.0.0.1").arg("true").output().expect("ssh runs");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = client(&ca.1);
    assert!(
        said.contains("Permission denied") && !said.contains("verification failed"),
        "the host was believed: {said}"
    );
    let said = client(&helper.key_pair("ed25519").1);
    assert!(said.contains("verification failed"), "{said}");
}
