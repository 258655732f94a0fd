//! The key store rotator against the programs that make and read key stores: Java's keytool and OpenSSL.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use keywheel_protocol::{By, Reason, Reply, Step};
use serde_json::json;
use support::{Place, foretold, in_doubt, no, yes};

const OLD: &str = "marker-first";
const NEW: &str = "marker-second $x'y\"z%&<\\";
/// An option of Java that changes nothing.
const USUAL: &str = "-J-Dunused=yes";
/// The login that makes the change: the store itself.
const BY_OLD: (By, &str, &str) = (By::Account, "ignored", OLD);

struct Folder {
    folder: tempfile::TempDir,
    path: PathBuf,
    place: Place,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.store");
        let place = Place::new("keystore", json!({ "path": path }));
        Self { folder, path, place }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn keytool(&self, passphrase: &str, arguments: &[&str]) -> Output {
        keytool(&self.path, passphrase, arguments)
    }

    /// What keytool makes of the store, without what differs from one look to the next.
    fn listed(&self, passphrase: &str) -> String {
        text(self.keytool(passphrase, &["-list", "-v"]))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.folder.path())
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    /// The rotation from [`OLD`] to [`NEW`], with each answer and each reader on the way.
    fn turns_over(&self) -> String {
        let untouched = fs::read(&self.path).expect("read");
        yes(self.place.verify("app", OLD));
        no(self.place.verify("app", NEW), Reason::Credential);
        no(self.place.apply("app", NEW, (By::Account, "app", "neither")), Reason::Credential);
        yes(self.place.ask(&self.place.request(Step::Rehearse, Some(("app", NEW)), Some(BY_OLD))));
        assert_eq!(fs::read(&self.path).expect("read"), untouched);
        let note = yes(self.place.apply("app", NEW, BY_OLD));
        yes(self.place.verify("app", NEW));
        no(self.place.verify("app", OLD), Reason::Credential);
        // An answer that was lost: the same once more.
        let turned = fs::read(&self.path).expect("read");
        yes(self.place.apply("app", NEW, BY_OLD));
        assert_eq!(fs::read(&self.path).expect("read"), turned);
        assert_eq!(self.names(), ["app.store"]);
        note
    }
}

fn keytool(path: &Path, passphrase: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("keytool");
    command.args(&arguments[..1]).arg("-keystore").arg(path).args(["-storepass:env", "PASS"]).env("PASS", passphrase);
    command.args(&arguments[1..]).args(["-J-Duser.language=en", "-J-XX:TieredStopAtLevel=1"]);
    command.output().expect("keytool is installed")
}

fn openssl(passphrase: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("openssl");
    command.args(arguments).env("PASS", passphrase).output().expect("openssl is installed")
}

#[track_caller]
fn text(output: Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{words}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A pair of a key and its certificate in PEM.
fn pair(folder: &Folder, name: &str, issuer: Option<&str>) {
    let (key, certificate) = (folder.at(&format!("{name}.key")), folder.at(&format!("{name}.crt")));
    let subject = format!("/CN={name}");
    let mut arguments = vec![
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
        "-subj",
        &subject,
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    let issuer = issuer.map(|issuer| (folder.at(&format!("{issuer}.crt")), folder.at(&format!("{issuer}.key"))));
    if let Some((certificate, key)) = &issuer {
        arguments.extend(["-CA", certificate, "-CAkey", key]);
    }
    text(openssl("", &arguments));
}

/// A store by OpenSSL: a key with its chain and a certificate that belongs to nobody.
fn by_openssl(folder: &Folder, options: &[&str]) {
    pair(folder, "Root", None);
    pair(folder, "Server", Some("Root"));
    pair(folder, "Stranger", None);
    let concatenated = ["Root.crt", "Stranger.crt"].map(|name| fs::read(folder.at(name)).expect("read")).concat();
    fs::write(folder.at("more.crt"), concatenated).expect("written");
    let (key, certificate, more) = (folder.at("Server.key"), folder.at("Server.crt"), folder.at("more.crt"));
    let mut arguments = vec![
        "pkcs12",
        "-export",
        "-inkey",
        &key,
        "-in",
        &certificate,
        "-certfile",
        &more,
        "-name",
        "My Server",
        "-caname",
        "The Root",
        "-CSP",
        "Some Provider",
        "-passout",
        "env:PASS",
        "-out",
    ];
    arguments.push(folder.path.to_str().expect("UTF-8"));
    arguments.extend(options);
    text(openssl(OLD, &arguments));
    for name in ["Root", "Server", "Stranger"].iter().flat_map(|name| [format!("{name}.key"), format!("{name}.crt")]) {
        fs::remove_file(folder.at(&name)).expect("removed");
    }
    fs::remove_file(folder.at("more.crt")).expect("removed");
}

/// All that OpenSSL sees in the store: the contents with their attributes in their order, and how it is encrypted.
fn openssl_sees(folder: &Folder, passphrase: &str, legacy: bool) -> String {
    let path = folder.path.to_str().expect("UTF-8");
    let mut arguments = vec!["pkcs12", "-in", path, "-passin", "env:PASS", "-nodes", "-info"];
    arguments.extend(legacy.then_some("-legacy"));
    let output = openssl(passphrase, &arguments);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    text(output) + &words
}

#[test]
fn a_store_of_openssl_keeps_names_attributes_order_and_encryption() {
    let cases: [(&[&str], bool, &str); 6] = [
        (&[], false, "AES-256-CBC"),
        (&["-macalg", "SHA512", "-iter", "3333"], false, "AES-256-CBC, Iteration 3333, PRF hmacWithSHA256"),
        (&["-keypbe", "AES-128-CBC", "-certpbe", "AES-192-CBC", "-macalg", "SHA384"], false, "AES-192-CBC"),
        (&["-legacy"], true, "pbeWithSHA1And40BitRC2-CBC"),
        (&["-legacy", "-certpbe", "PBE-SHA1-RC2-128", "-keypbe", "PBE-SHA1-2DES"], true, "pbeWithSHA1And128BitRC2-CBC"),
        (&["-certpbe", "NONE", "-keypbe", "PBE-SHA1-3DES", "-nomaciter"], false, "pbeWithSHA1And3-KeyTripleDES-CBC"),
    ];
    for (options, legacy, encryption) in cases {
        let folder = Folder::new();
        by_openssl(&folder, options);
        let before = openssl_sees(&folder, OLD, legacy);
        assert!(before.contains(encryption), "{before}");
        assert!(before.contains("My Server") && before.contains("Some Provider") && before.contains("CN = Stranger"));
        let note = folder.turns_over();
        assert_eq!(note.contains("old way"), before.contains("pbeWithSHA1"), "{options:?}: {note}");
        assert_eq!(openssl_sees(&folder, NEW, legacy), before, "{options:?}");
        let path = folder.path.to_str().expect("UTF-8");
        assert!(!openssl(OLD, &["pkcs12", "-in", path, "-passin", "env:PASS", "-nokeys"]).status.success());
        // Java, which knows no AES-192 here, reads it as well.
        if encryption != "AES-192-CBC" {
            assert!(folder.listed(NEW).contains("my server"), "{options:?}");
        }
    }
}

#[test]
fn a_store_without_a_mac_is_judged_by_what_it_hides() {
    let folder = Folder::new();
    by_openssl(&folder, &["-nomac"]);
    let path = folder.path.to_str().expect("UTF-8").to_owned();
    let sees =
        |passphrase| text(openssl(passphrase, &["pkcs12", "-in", &path, "-passin", "env:PASS", "-nodes", "-nomacver"]));
    let before = sees(OLD);
    folder.turns_over();
    assert_eq!(sees(NEW), before);
    let open = Folder::new();
    by_openssl(&open, &["-nomac", "-certpbe", "NONE", "-keypbe", "NONE"]);
    let message = no(open.place.verify("app", OLD), Reason::Unsupported);
    assert!(message.contains("nothing in it is guarded"), "{message}");
}

#[test]
fn a_wrong_pass_phrase_and_a_damaged_store_are_told_apart() {
    let folder = Folder::new();
    by_openssl(&folder, &[]);
    let path = folder.path.to_str().expect("UTF-8").to_owned();
    let mut first = fs::read(&path).expect("read");
    let message = no(folder.place.verify("app", "wrong-one"), Reason::Credential);
    assert!(message.contains("does not open"), "{message}");
    first.truncate(first.len() / 2);
    fs::write(&path, &first).expect("written");
    let message = no(folder.place.verify("app", OLD), Reason::Unsupported);
    assert!(message.contains("damaged"), "{message}");
}

/// `extra` has Java make the store as Java 8 does.
fn keytool_makes(folder: &Folder, kind: &str, extra: Option<&str>) {
    let extra = extra.unwrap_or(USUAL);
    for name in ["one", "two"] {
        let dname = format!("CN={name}");
        let key = ["-genkeypair", "-storetype", kind, "-alias", name, "-dname", &dname, "-keyalg", "EC", extra];
        text(folder.keytool(OLD, &key));
    }
    let ca = folder.at("ca.crt");
    let key = folder.at("ca.key");
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    text(openssl(
        "",
        &[&["req", "-x509", "-nodes", "-subj", "/CN=Authority", "-keyout", &key, "-out", &ca], &ec[..]].concat(),
    ));
    let trusted = ["-importcert", "-noprompt", "-storetype", kind, "-alias", "authority", "-file", &ca, extra];
    text(folder.keytool(OLD, &trusted));
    for path in [ca, key] {
        fs::remove_file(path).expect("removed");
    }
}

/// The private key as Java gives it out, under the store's pass phrase.
fn exported(folder: &Folder, passphrase: &str, alias: &str) -> String {
    let out = tempfile::tempdir().expect("a folder");
    let (there, source) = (out.path().join("out.p12"), folder.path.to_str().expect("UTF-8"));
    let mut command = Command::new("keytool");
    command.args(["-importkeystore", "-srckeystore", source, "-destkeystore"]).arg(&there);
    command.args(["-deststoretype", "PKCS12", "-srcstorepass:env", "PASS", "-deststorepass", "another"]);
    command.args(["-srckeypass:env", "PASS", "-destkeypass", "another"]);
    command.args(["-srcalias", alias]).env("PASS", passphrase);
    text(command.output().expect("keytool is installed"));
    let there = there.to_str().expect("UTF-8");
    text(openssl("another", &["pkcs12", "-in", there, "-passin", "env:PASS", "-nodes", "-nocerts"]))
        .lines()
        .skip_while(|line| !line.starts_with("-----"))
        .collect()
}

#[test]
fn stores_of_java_keep_keys_secret_keys_and_trusted_certificates() {
    for (kind, extra) in [("PKCS12", None), ("PKCS12", Some("-J-Dkeystore.pkcs12.legacy")), ("JKS", None)] {
        let folder = Folder::new();
        keytool_makes(&folder, kind, extra);
        if kind == "PKCS12" {
            text(folder.keytool(
                OLD,
                &["-genseckey", "-alias", "secret", "-keyalg", "AES", "-keysize", "256", extra.unwrap_or(USUAL)],
            ));
        }
        let before = folder.listed(OLD);
        let keys = ["one", "two"].map(|alias| exported(&folder, OLD, alias));
        assert!(
            before.contains("trustedCertEntry") && keys[0] != keys[1] && keys[0].contains("PRIVATE KEY"),
            "{before}"
        );
        let note = folder.turns_over();
        assert_eq!(note.contains("old way"), kind == "JKS" || extra.is_some());
        assert_eq!(folder.listed(NEW), before);
        assert!(!folder.keytool(OLD, &["-list"]).status.success());
        assert_eq!(["one", "two"].map(|alias| exported(&folder, NEW, alias)), keys);
        if kind == "PKCS12" {
            assert!(before.contains("SecretKeyEntry"), "{before}");
            // The secret key opens: Java can't take over what it can't read.
            let there = folder.at("copy");
            let source = folder.path.to_str().expect("UTF-8");
            let mut command = Command::new("keytool");
            command.args([
                "-importkeystore",
                "-srckeystore",
                source,
                "-destkeystore",
                &there,
                "-srcstorepass:env",
                "PASS",
            ]);
            command.args(["-deststorepass", "another", "-srcalias", "secret"]).env("PASS", NEW);
            text(command.output().expect("keytool is installed"));
        }
        // And what keytool does with it next works.
        text(folder.keytool(NEW, &["-changealias", "-alias", "one", "-destalias", "other"]));
        yes(folder.place.verify("app", NEW));
    }
}

#[test]
fn a_key_of_jks_with_a_password_of_its_own_is_named_and_nothing_is_changed() {
    let folder = Folder::new();
    keytool_makes(&folder, "JKS", None);
    let mut command = Command::new("keytool");
    command.args(["-keypasswd", "-alias", "two", "-keystore"]).arg(&folder.path);
    command.args(["-storepass:env", "PASS", "-keypass:env", "PASS", "-new", "its-own"]).env("PASS", OLD);
    text(command.output().expect("keytool is installed"));
    let before = fs::read(&folder.path).expect("read");
    let rehearsal = folder.place.request(Step::Rehearse, Some(("app", NEW)), Some(BY_OLD));
    for reply in [folder.place.apply("app", NEW, BY_OLD), folder.place.ask(&rehearsal), folder.place.verify("app", OLD)]
    {
        let message = no(reply, Reason::Unsupported);
        assert!(message.contains("the key two has a pass phrase of its own"), "{message}");
    }
    assert_eq!(fs::read(&folder.path).expect("read"), before);
}

#[test]
fn a_rehearsal_predicts_each_no_and_changes_nothing() {
    let folder = Folder::new();
    by_openssl(&folder, &[]);
    let (place, store) = (&folder.place, fs::read(&folder.path).expect("read"));
    let others = folder.names();
    let new = ("app", NEW);
    foretold(place, new, (By::Account, "app", "neither"), Reason::Credential);
    foretold(place, new, (By::Admin, "admin", OLD), Reason::Unsupported);
    foretold(place, ("app", "short"), BY_OLD, Reason::Policy);
    foretold(place, ("app", "pässphrase"), BY_OLD, Reason::Policy);
    foretold(&place.clone().with("path", folder.at("none")), new, BY_OLD, Reason::Missing);
    fs::hard_link(&folder.path, folder.at("again")).expect("a second name");
    foretold(place, new, BY_OLD, Reason::Unsupported);
    fs::remove_file(folder.at("again")).expect("removed");
    fs::write(folder.at("text"), "no store").expect("written");
    foretold(&place.clone().with("path", folder.at("text")), new, BY_OLD, Reason::Unsupported);
    fs::remove_file(folder.at("text")).expect("removed");
    // The configuration beside it has another pass phrase, or none.
    let beside = |text: &str| {
        fs::write(folder.at("app.ini"), text).expect("written");
        let place = place.clone().with("config", folder.at("app.ini"));
        place.with("config_format", "ini").with("config_key", "tls.pass")
    };
    for (text, reason) in [("other = 1", Reason::Missing), ("pass = another", Reason::Unsupported)] {
        foretold(&beside(&format!("[tls]\n{text}\n")), ("app", "marker-second"), BY_OLD, reason);
    }
    fs::remove_file(folder.at("app.ini")).expect("removed");
    assert_eq!((fs::read(&folder.path).expect("read"), folder.names()), (store, others));
    yes(place.verify("app", OLD));
}

#[test]
fn jceks_and_files_that_are_no_stores_are_told_so() {
    let folder = Folder::new();
    text(
        folder.keytool(
            OLD,
            &["-genkeypair", "-storetype", "JCEKS", "-alias", "one", "-dname", "CN=one", "-keyalg", "EC"],
        ),
    );
    let message = no(folder.place.verify("app", OLD), Reason::Unsupported);
    assert!(message.contains("JCEKS") && message.contains("-importkeystore"), "{message}");
    for odd in [&b""[..], b"\xfe\xed\xfe\xed", b"-----BEGIN CERTIFICATE-----", b"0\x80\x02\x01\x03", &[0x30; 4096]] {
        fs::write(&folder.path, odd).expect("written");
        let reply = folder.place.apply("app", NEW, BY_OLD);
        assert!(
            matches!(reply, Reply::No { reason: Reason::Unsupported | Reason::Credential, .. }),
            "{odd:02x?}: {reply:?}"
        );
        assert_eq!(fs::read(&folder.path).expect("read"), odd);
    }
    let huge = fs::File::create(&folder.path).expect("made");
    huge.set_len(17 << 20).expect("long");
    no(folder.place.verify("app", OLD), Reason::Unsupported);
    fs::remove_file(&folder.path).expect("removed");
    no(folder.place.verify("app", OLD), Reason::Missing);
}

#[test]
fn a_store_that_asks_for_endless_work_is_left_alone() {
    let folder = Folder::new();
    by_openssl(&folder, &["-iter", "6000000", "-macalg", "SHA256"]);
    let message = no(folder.place.verify("app", OLD), Reason::Unsupported);
    assert!(message.contains("5000000"), "{message}");
}

#[test]
fn owner_mode_access_list_and_link_are_kept() {
    let folder = Folder::new();
    by_openssl(&folder, &[]);
    fs::set_permissions(&folder.path, fs::Permissions::from_mode(0o640)).expect("mode");
    assert!(Command::new("setfacl").args(["-m", "u:daemon:r"]).arg(&folder.path).status().expect("acl").success());
    let is_root = fs::metadata(&folder.path).expect("found").uid() == 0;
    if is_root {
        std::os::unix::fs::chown(&folder.path, Some(65534), Some(65534)).expect("given away");
    }
    let list = |path: &Path| text(Command::new("getfacl").arg("-cp").arg(path).output().expect("acl"));
    let (before, found) = (list(&folder.path), fs::metadata(&folder.path).expect("found"));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let link = elsewhere.path().join("link");
    symlink(&folder.path, &link).expect("linked");
    let place = folder.place.clone().with("path", link.to_str().expect("UTF-8"));
    yes(place.apply("app", NEW, BY_OLD));
    let now = fs::metadata(&folder.path).expect("found");
    assert!(link.symlink_metadata().expect("found").is_symlink() && now.ino() != found.ino());
    assert_eq!((now.mode(), now.uid(), now.gid()), (found.mode(), found.uid(), found.gid()));
    assert_eq!(list(&folder.path), before);
    yes(folder.place.verify("app", NEW));
    fs::hard_link(&folder.path, elsewhere.path().join("second")).expect("linked");
    let message = no(folder.place.apply("app", "marker-third", (By::Account, "app", NEW)), Reason::Unsupported);
    assert!(message.contains("hard links"), "{message}");
}

#[test]
fn what_no_reader_agrees_on_is_refused_as_a_pass_phrase() {
    let folder = Folder::new();
    by_openssl(&folder, &[]);
    let long = "x".repeat(513);
    for odd in ["short", "ümlaut-ümlaut", "line\nline", "", &long] {
        no(folder.place.apply("app", odd, BY_OLD), Reason::Policy);
    }
    no(folder.place.apply("app", NEW, (By::Admin, "admin", OLD)), Reason::Unsupported);
    let longest = "x".repeat(512);
    yes(folder.place.apply("app", &longest, BY_OLD));
    assert!(openssl_sees(&folder, &longest, false).contains("My Server"));
}

#[test]
fn the_configuration_beside_it_changes_with_the_store() {
    let folder = Folder::new();
    by_openssl(&folder, &[]);
    let config = folder.at("server.xml");
    let document = |value: &str| format!("<Server><!-- k --><Connector port='1' keystorePass=\"{value}\"/></Server>\n");
    fs::write(&config, document(OLD)).expect("written");
    let place = folder.place.clone().with("config", config.as_str()).with("config_format", "xml");
    no(place.verify("app", OLD), Reason::Unsupported);
    let place = place.with("config_key", "Server/Connector/@keystorePass");
    yes(place.verify("app", OLD));
    let wrong = place.clone().with("config_key", "Server/Connector/@port");
    let message = no(wrong.apply("app", NEW, BY_OLD), Reason::Unsupported);
    assert!(message.contains("right key"), "{message}");
    no(place.clone().with("config_key", "Server/none").apply("app", NEW, BY_OLD), Reason::Missing);
    yes(folder.place.verify("app", OLD));

    const PLAIN: &str = "marker-second";
    yes(place.apply("app", PLAIN, BY_OLD));
    assert_eq!(fs::read_to_string(&config).expect("read"), document(PLAIN));
    yes(place.verify("app", PLAIN));
    // A worker that died between the two: neither is proved, and the same once more puts it right.
    fs::write(&config, document(OLD)).expect("written");
    let message = no(place.verify("app", PLAIN), Reason::Credential);
    assert!(message.contains("is another one"), "{message}");
    no(place.verify("app", OLD), Reason::Credential);
    yes(place.apply("app", PLAIN, BY_OLD));
    assert_eq!(fs::read_to_string(&config).expect("read"), document(PLAIN));
    assert_eq!(folder.names(), ["app.store", "server.xml"]);
}

#[test]
fn check_and_reload_are_called_as_for_other_files() {
    let folder = Folder::new();
    by_openssl(&folder, &[]);
    let programs = tempfile::tempdir().expect("a folder");
    let script = |name: &str, body: &str| {
        let path = programs.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        path.to_str().expect("UTF-8").to_owned()
    };
    let (fails, works) = (script("fails", "exit 1"), script("works", "cat >/dev/null; exit 0"));
    no(folder.place.clone().with("reload", works.as_str()).verify("app", OLD), Reason::Unsupported);
    let place = folder.place.clone().with("check", works.as_str()).with("reload", fails.as_str());
    in_doubt(place.apply("app", "marker-second", BY_OLD));
    let place = place.with("reload", works.as_str());
    yes(place.apply("app", "marker-second", BY_OLD));
    yes(place.verify("app", "marker-second"));
    no(place.with("check", fails.as_str()).verify("app", "marker-second"), Reason::Credential);
}

/// No other program sees a secret: none is run.
#[test]
fn i8_no_program_is_started_and_no_secret_is_written_beside_the_store() {
    let folder = Folder::new();
    by_openssl(&folder, &[]);
    let request = folder.place.request(Step::Apply, Some(("app", "marker-second")), Some(BY_OLD));
    let trace = tempfile::tempdir().expect("a folder");
    let (log, mut command) = (trace.path().join("log"), Command::new("strace"));
    let description = (keywheel_rotators::Kind::named("keystore").expect("a kind").describe)();
    command.args(["-f", "-s", "4096", "-o"]).arg(&log).args(["-e", "trace=execve,write,pwrite64,sendto,openat"]);
    command
        .arg(support::ROTATOR)
        .arg("run")
        .args(description.permissions(&folder.place.target, &folder.place.credential).to_args());
    command.arg("keystore").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut worker = command.spawn().expect("strace is installed");
    support::send(&mut worker, &request);
    yes(support::reply_of(worker));
    let log = fs::read_to_string(&log).expect("a trace");
    let calls = log.lines().filter(|line| line.contains("execve(")).count();
    assert!(calls == 1 && log.contains("app.store.keywheel-") && !log.contains("marker-"), "{log}");
    yes(folder.place.verify("app", "marker-second"));
}

#[test]
fn many_changes_in_a_row_lose_nothing() {
    let folder = Folder::new();
    by_openssl(&folder, &["-legacy"]);
    let before = openssl_sees(&folder, OLD, true);
    let size = fs::metadata(&folder.path).expect("found").len();
    let mut current = OLD.to_owned();
    for turn in 0..20 {
        let new = format!("marker-{turn}-{}", "x".repeat(turn));
        yes(folder.place.apply("app", &new, (By::Account, "app", &current)));
        current = new;
    }
    assert_eq!(openssl_sees(&folder, &current, true), before);
    assert_eq!(fs::metadata(&folder.path).expect("found").len(), size);
}

#[test]
fn a_part_with_a_pass_phrase_of_its_own_is_left_alone() {
    let folder = Folder::new();
    pair(&folder, "Server", None);
    let (key, certificate) = (folder.at("Server.key"), folder.at("Server.crt"));
    let mut command = Command::new("setsid");
    // Without a terminal, OpenSSL takes both from its input.
    command.args(["--wait", "openssl", "pkcs12", "-export", "-twopass", "-inkey", &key, "-in", &certificate, "-out"]);
    command.arg(&folder.path).stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut openssl = command.spawn().expect("setsid is installed");
    let lines = format!("{OLD}\n{OLD}\nits-own\nits-own\n");
    openssl.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("written");
    assert!(openssl.wait().expect("it ends").success());
    let before = fs::read(&folder.path).expect("read");
    for reply in [folder.place.apply("app", NEW, BY_OLD), folder.place.verify("app", OLD)] {
        let message = no(reply, Reason::Unsupported);
        assert!(message.contains("pass phrase of its own"), "{message}");
    }
    no(folder.place.verify("app", "its-own"), Reason::Credential);
    assert_eq!(fs::read(&folder.path).expect("read"), before);
}

#[test]
fn a_store_of_nss_becomes_der_with_the_same_contents() {
    let folder = Folder::new();
    by_openssl(&folder, &[]);
    let database = tempfile::tempdir().expect("a folder");
    let at = database.path().to_str().expect("UTF-8");
    let path = folder.path.to_str().expect("UTF-8");
    let run = |program: &str, arguments: &[&str]| {
        text(Command::new(program).args(arguments).output().expect("libnss3-tools is installed"));
    };
    run("certutil", &["-N", "-d", at, "--empty-password"]);
    run("pk12util", &["-i", path, "-d", at, "-W", OLD]);
    run("pk12util", &["-o", path, "-n", "My Server", "-d", at, "-W", OLD]);
    assert!(fs::read(&folder.path).expect("read").starts_with(&[0x30, 0x80]));
    let before = openssl_sees(&folder, OLD, false);
    assert!(before.contains("My Server") && before.contains("Iteration 600000"), "{before}");
    folder.turns_over();
    assert_eq!(openssl_sees(&folder, NEW, false), before);
    run("pk12util", &["-l", path, "-d", at, "-W", NEW]);
}
