//! The package on a real systemd: booted in a container, installed by dpkg, used by units.

#[path = "systemd/attacker.rs"]
mod attacker;
mod support;
#[path = "systemd/takeover.rs"]
mod takeover;

use std::time::Duration;

use age::secrecy::ExposeSecret;
use support::nspawn::Machine;
use support::{PgOptions, Postgres, eventually, package, within};

/// A booted Debian with the package installed.
fn installed(suite: &str) -> Machine {
    let machine = Machine::boot(suite, &package());
    machine.ok("dpkg --install /mnt/keywheel.deb");
    machine.wait_for("keywheeld.service", "ActiveState", "active");
    machine
}

/// Adds to the configuration of an installed package and has it taken over.
fn configure(machine: &Machine, toml: &str) {
    machine.write("/etc/keywheel/conf.d/test.toml", toml);
    machine.ok("chown root:keywheel /etc/keywheel/conf.d/test.toml && chmod 0640 /etc/keywheel/conf.d/test.toml");
    machine.ok("keywheel check && keywheel reload");
}

/// Puts a line of the shipped configuration into force.
fn uncomment(machine: &Machine, key: &str) {
    machine.ok(&format!(
        "sed -i 's/^#{key} = /{key} = /' /etc/keywheel/keywheel.toml && grep '^{key} = ' /etc/keywheel/keywheel.toml"
    ));
}

/// A unit that wants `credentials` from keywheel and then goes on running.
fn unit(machine: &Machine, name: &str, credentials: &[&str]) {
    let wanted: String =
        credentials.iter().map(|id| format!("LoadCredential={id}:/run/keywheel/systemd.sock\n")).collect();
    machine
        .write(&format!("/etc/systemd/system/{name}"), &format!("[Service]\n{wanted}ExecStart=/bin/sleep infinity\n"));
    machine.ok("systemctl daemon-reload");
}

fn version(machine: &Machine, name: &str) -> u64 {
    let status = machine.ok(&format!("keywheel --json status {name} || true"));
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status["credentials"][0]["current"].as_u64().unwrap_or_else(|| panic!("{status}\n{}", machine.journal()))
}

/// Item 11 of the first milestone, from the package to the unit that has the current password.
fn a_role_is_turned_over_and_units_start_with_its_current_password(suite: &str) {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app_a", "first-of-app");
    let machine = installed(suite);
    configure(
        &machine,
        &format!(
            r#"
            [target.pg]
            kind = "postgres"
            host = "127.0.0.1"
            port = {}
            tls = "disable"
            admin = "pg/admin"

            [credential."pg/admin"]
            target = "pg"
            account = "{}"
            change_by = "account"
            schedule = "manual"

            [credential."app/db"]
            target = "pg"
            accounts = ["app_a", "app_b"]
            strategy = "alternate"
            schedule = {{ every = "5s" }}
            grace = "2s"

            [grant.app]
            credentials = ["app/*"]
            unit = "app.service"
            "#,
            pg.port, pg.superuser
        ),
    );
    machine.ok_with("keywheel import pg/admin", pg.superuser_password.as_bytes());
    machine.ok_with("keywheel import app/db --account app_a", b"first-of-app");

    // By the schedule alone. Just after a rotation there are five seconds in which nothing moves.
    let before = eventually("two rotations by schedule", || Some(version(&machine, "app/db")).filter(|now| *now >= 3));
    let current = eventually("the next one", || Some(version(&machine, "app/db")).filter(|now| *now > before));

    unit(&machine, "app.service", &["app--db", "app--db.username"]);
    machine.ok("systemctl start app.service");
    let [password, username] =
        ["app--db", "app--db.username"].map(|id| machine.ok(&format!("cat /run/credentials/app.service/{id}")));
    assert_eq!(version(&machine, "app/db"), current, "the test was too slow to compare");
    assert_eq!(username, if current % 2 == 1 { "app_a" } else { "app_b" });
    assert!(pg.login_works(&username, &password), "what the unit was given does not open the role");

    // No grant, no start: neither with an empty credential nor with another's.
    unit(&machine, "other.service", &["app--db"]);
    unit(&machine, "unknown.service", &["no--such"]);
    for denied in ["other.service", "unknown.service"] {
        assert!(
            !machine
                .run(&format!("systemctl start {denied} && sleep 1 && systemctl is-active {denied}"))
                .status
                .success()
        );
        machine.wait_for(denied, "ActiveState", "failed");
        // EXIT_CREDENTIALS of systemd.exec(5).
        assert_eq!(machine.property(denied, "ExecMainStatus"), "243", "{denied}");
    }

    // The daemon is started by the unit that needs it, and what it hands out it has on disk.
    machine.ok("systemctl stop app.service keywheeld.service");
    machine.ok("systemctl start app.service");
    machine.wait_for("keywheeld.service", "ActiveState", "active");
    assert!(!machine.ok("cat /run/credentials/app.service/app--db").is_empty());

    // I8: neither what was imported nor what was drawn is in the journal or in a command line.
    let journal = machine.journal();
    for secret in [pg.superuser_password.as_str(), "first-of-app", password.as_str()] {
        assert!(!journal.contains(secret), "a secret is in the journal");
    }
}

#[test]
fn on_debian_12_a_role_is_turned_over_and_units_start_with_its_current_password() {
    a_role_is_turned_over_and_units_start_with_its_current_password("bookworm");
}

#[test]
fn on_debian_13_a_role_is_turned_over_and_units_start_with_its_current_password() {
    a_role_is_turned_over_and_units_start_with_its_current_password("trixie");
}

#[test]
fn an_installed_package_is_confined_upgraded_and_removed_without_losing_the_key() {
    let machine = installed("bookworm");
    assert_eq!(machine.ok("stat -c '%U:%G %a' /etc/keywheel/master.key").trim_end(), "keywheel:keywheel 400");
    assert_eq!(machine.ok("stat -c '%U:%G %a' /etc/keywheel/keywheel.toml").trim_end(), "root:keywheel 640");
    let modes = machine.ok("cd /run/keywheel && stat -c '%n %U:%G %a' control.sock keywheel.sock systemd.sock");
    assert_eq!(modes, "control.sock root:keywheel 660\nkeywheel.sock root:root 666\nsystemd.sock root:root 600\n");
    machine.ok("systemd-analyze security --threshold=15 keywheeld.service");
    machine.ok(
        "keywheel check && keywheel list && man --version >/dev/null 2>&1; test -s /usr/share/man/man1/keywheel.1.gz",
    );
    assert_eq!(machine.property("keywheeld.service", "StatusText"), "serving");

    // Strangers can't knock; the group's members can, and are let in when the configuration says so.
    let list = |groups: &str| {
        machine.run(&format!("setpriv --reuid=nobody --regid=nogroup {groups} keywheel list")).status.code()
    };
    assert_ne!(list("--clear-groups"), Some(0));
    assert_eq!(list("--groups=keywheel"), Some(77));
    machine.ok("sed -i '/^\\[operators\\]/a groups = [\"keywheel\"]' /etc/keywheel/keywheel.toml && keywheel reload");
    assert_eq!(list("--groups=keywheel"), Some(0));

    let key = machine.ok("sha256sum /etc/keywheel/master.key");
    let first = machine.property("keywheeld.service", "InvocationID");
    machine.ok("dpkg --install /mnt/keywheel.deb");
    machine.wait_for("keywheeld.service", "ActiveState", "active");
    assert_ne!(machine.property("keywheeld.service", "InvocationID"), first, "the new program does not run");
    assert_eq!(machine.ok("sha256sum /etc/keywheel/master.key"), key);

    machine.ok("dpkg --remove keywheel");
    assert_ne!(machine.property("keywheeld.service", "ActiveState"), "active");
    let said = machine.ok("dpkg --purge keywheel");
    assert!(said.contains("stay"), "{said}");
    assert_eq!(machine.ok("sha256sum /etc/keywheel/master.key"), key);
    machine.ok("test -d /var/lib/keywheel/store && ! test -e /run/keywheel && ! test -e /etc/keywheel/keywheel.toml");

    // The store is still there, and the key opens it.
    machine.ok("dpkg --install /mnt/keywheel.deb");
    machine.wait_for("keywheeld.service", "ActiveState", "active");
    assert_eq!(machine.ok("sha256sum /etc/keywheel/master.key"), key);
    assert_eq!(machine.ok("systemctl is-system-running || systemctl --failed").trim_end(), "running");
}

#[test]
fn a_daemon_that_hangs_is_started_anew() {
    let machine = installed("bookworm");
    machine.ok("mkdir -p /etc/systemd/system/keywheeld.service.d");
    machine.write("/etc/systemd/system/keywheeld.service.d/test.conf", "[Service]\nWatchdogSec=3s\nRestartSec=100ms\n");
    machine.ok("systemctl daemon-reload && systemctl restart keywheeld.service");
    // It keeps the watchdog quiet by itself.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(machine.property("keywheeld.service", "NRestarts"), "0");
    machine.ok("kill -STOP $(systemctl show --value -p MainPID keywheeld.service)");
    machine.wait_for("keywheeld.service", "NRestarts", "1");
    machine.wait_for("keywheeld.service", "ActiveState", "active");
    machine.ok("keywheel list");
}

#[test]
fn a_store_that_waits_for_its_passphrase_is_left_to_wait() {
    let machine = installed("bookworm");
    // With the store goes what stands beside the audit log to tell of it.
    machine
        .ok("systemctl stop keywheeld.service && rm -r /var/lib/keywheel/store /var/log/keywheel/audit.jsonl.position");
    uncomment(&machine, "passphrase");
    machine.ok("mkdir -p /etc/systemd/system/keywheeld.service.d");
    machine.write("/etc/systemd/system/keywheeld.service.d/test.conf", "[Service]\nWatchdogSec=2s\n");
    machine.ok("systemctl daemon-reload && systemctl start keywheeld.service");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(machine.property("keywheeld.service", "NRestarts"), "0");
    assert!(machine.property("keywheeld.service", "StatusText").starts_with("sealed"));
    assert!(!machine.run("keywheel list").status.success());
    machine.ok_with("keywheel unseal", b"correct horse battery staple of the test\n");
    machine.ok("keywheel list");
    machine.wait_for("keywheeld.service", "StatusText", "serving");
}

/// Binds the key in `plain` to the host, as the unit itself recommends, and has it nowhere else.
fn bind_key(machine: &Machine, plain: &str) {
    let service = machine.ok("cat /usr/lib/systemd/system/keywheeld.service");
    // The commands and lines that the unit itself recommends.
    let command = service.lines().find_map(|line| line.strip_prefix("#   systemd-creds encrypt")).expect("the command");
    let line = service.lines().find_map(|line| line.strip_prefix("#LoadCredentialEncrypted=")).expect("the line");
    machine
        .ok(&format!("systemd-creds encrypt {}", command.replace("/etc/keywheel/master.key ", &format!("{plain} "))));
    machine.ok("mkdir -p /etc/systemd/system/keywheeld.service.d");
    machine.write(
        "/etc/systemd/system/keywheeld.service.d/key.conf",
        &format!("[Service]\nLoadCredentialEncrypted={line}\n"),
    );
    machine.ok(&format!("rm {plain} && systemctl daemon-reload"));
}

#[test]
fn the_master_key_can_be_bound_to_the_host() {
    let machine = installed("bookworm");
    uncomment(&machine, "systemd_credential");
    bind_key(&machine, "/etc/keywheel/master.key");
    machine.ok("systemctl restart keywheeld.service && keywheel list");
    // An upgrade makes no other key in the place of the one that was taken away.
    machine.ok("dpkg --install /mnt/keywheel.deb && ! test -e /etc/keywheel/master.key && keywheel list");
}

#[test]
fn a_host_key_that_is_lost_is_told_of_and_a_backup_brings_the_service_back() {
    let machine = installed("bookworm");
    let identity = age::x25519::Identity::generate();
    configure(
        &machine,
        &format!(
            "[target.keys]\nkind = \"local\"\n[credential.\"app/key\"]\ntarget = \"keys\"\nschedule = \"manual\"\n\
             [grant.root]\ncredentials = \"**\"\nuser = \"root\"\n[backup]\nrecipients = [\"{}\"]\n",
            identity.to_public()
        ),
    );
    uncomment(&machine, "systemd_credential");
    bind_key(&machine, "/etc/keywheel/master.key");
    machine.ok(
        "systemctl restart keywheeld.service && keywheel rotate app/key --wait && keywheel backup /root/keywheel.age",
    );
    let secret = machine.ok("keywheel fetch app/key");

    // Another machine under the same disk: what the key was bound to is gone.
    machine.ok("systemctl stop keywheeld.service keywheel*.socket && rm /var/lib/systemd/credential.secret");
    assert!(!machine.run("systemctl restart keywheeld.service").status.success());
    assert_eq!(machine.property("keywheeld.service", "ExecMainStatus"), "243", "{}", machine.journal());
    // The service manager does not even start it, so the commands lead on.
    let said = |output: std::process::Output| {
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let listed = said(machine.run("keywheel list"));
    assert!(listed.contains("`keywheel doctor`"), "{listed}");
    let doctor = said(machine.run("keywheel doctor"));
    assert!(doctor.contains("if it is lost") && doctor.contains("`keywheel restore`"), "{doctor}");

    // As docs/guide/operating.md has it.
    machine.write("/root/operator.key", identity.to_string().expose_secret());
    machine.ok("mv /var/lib/keywheel/store /var/lib/keywheel/store.old");
    machine.ok("keywheel restore /root/keywheel.age -i /root/operator.key --key-file /root/keywheel.key");
    bind_key(&machine, "/root/keywheel.key");
    machine.ok("systemctl start keywheeld.service");
    eventually("it has logged in", || machine.run("keywheel fetch app/key").status.success().then_some(()));
    assert_eq!(machine.ok("keywheel fetch app/key"), secret);
    machine.ok("keywheel rotate app/key --wait");
}

#[test]
fn a_configuration_that_is_refused_shows_at_once_and_is_not_tried_again() {
    let machine = installed("bookworm");
    machine.write("/etc/keywheel/conf.d/wrong.toml", "[daemon]\nstate_dri = \"/var/lib/keywheel\"\n");
    machine.ok("chmod 0640 /etc/keywheel/conf.d/wrong.toml; chgrp keywheel /etc/keywheel/conf.d/wrong.toml");
    let restarted = machine.run("systemctl restart keywheeld.service");
    assert!(!restarted.status.success());
    machine.wait_for("keywheeld.service", "ActiveState", "failed");
    // EX_CONFIG.
    assert_eq!(machine.property("keywheeld.service", "ExecMainStatus"), "78");
    let again =
        within(Duration::from_secs(4), || (machine.property("keywheeld.service", "NRestarts") != "0").then_some(()));
    assert!(again.is_none(), "it is tried again");
    assert!(machine.journal().contains("state_dri"), "the journal does not say why");
}

/// The helper as root's, confined by its unit: tools, files and the kernel's word on who calls.
fn an_account_of_the_host_is_turned_over_by_the_helper(suite: &str) {
    let machine = installed(suite);
    machine.ok("useradd -M -s /bin/sh app && useradd -M -s /bin/sh other && echo app:first-of-app | chpasswd");
    assert_eq!(machine.property("keywheel-account.socket", "ActiveState"), "inactive", "nobody has enabled it");
    configure(
        &machine,
        r#"
        [target.host]
        kind = "local-account"

        [credential."host/app"]
        target = "host"
        account = "app"
        schedule = "manual"

        [credential."host/other"]
        target = "host"
        account = "other"
        schedule = "manual"

        [credential."host/root"]
        target = "host"
        account = "root"
        schedule = "manual"
        "#,
    );
    // Not enabled, not allowed, done: each with its words.
    let refused = |what: &str| {
        let output = machine.run("keywheel rotate --dry-run host/app");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(what), "{said}\n{}", machine.journal());
    };
    refused("systemctl enable --now keywheel-account.socket");
    machine.ok("systemctl enable --now keywheel-account.socket");
    assert_eq!(machine.ok("stat -c '%U:%G %a' /run/keywheel/account.sock").trim_end(), "keywheel:keywheel 600");
    refused("does not name app");
    machine.ok("echo app >> /etc/keywheel/accounts.conf && chmod g+w /etc/keywheel/accounts.conf");
    refused("can be written by others than root");
    machine.ok("chmod g-w /etc/keywheel/accounts.conf && keywheel rotate --dry-run host/app");

    let shadow = machine.ok("stat -c '%U:%G %a' /etc/shadow");
    let hash = |name: &str| machine.ok(&format!("getent shadow {name} | cut -d: -f2"));
    let (root, first) = (hash("root"), hash("app"));
    machine.ok_with("keywheel import host/app --account app", b"first-of-app");
    machine.ok("keywheel rotate host/app");
    let current = eventually("its rotation", || Some(version(&machine, "host/app")).filter(|now| *now >= 2));
    assert_ne!(hash("app"), first);
    assert_eq!(machine.ok("stat -c '%U:%G %a' /etc/shadow"), shadow, "owner, group and mode stay");
    unit(&machine, "job.service", &["host--app"]);
    machine.ok("printf '[grant.job]\\ncredentials = [\"host/app\"]\\nunit = \"job.service\"\\n' >> /etc/keywheel/conf.d/test.toml && keywheel reload");
    machine.ok("systemctl start job.service");
    let password = machine.ok("cat /run/credentials/job.service/host--app");
    let proved = machine.run_with("tr '\\n' '\\0' | unix_chkpwd app nonull", format!("{password}\n").as_bytes());
    assert!(proved.status.success(), "version {current} does not open the account");

    // One that never had a password gets its first.
    machine.ok("echo other >> /etc/keywheel/accounts.conf && keywheel rotate host/other");
    let status = || machine.ok("keywheel --json status host/other || true");
    eventually("a first version", || status().contains(r#""current":1"#).then_some(()));
    assert!(hash("other").starts_with("$y$"), "{}", hash("other"));
    let listed = machine.ok("keywheel --json discover host");
    assert!(listed.contains(r#""may_be_set":true"#) && !listed.contains("$y$"), "{listed}");

    // A history of PAM's, to which root is held: the refusal of a repeated password is told from one that is in force.
    machine.ok("sed -i '1i password required pam_pwhistory.so remember=5 enforce_for_root' /etc/pam.d/common-password");
    machine.ok("keywheel rotate host/app");
    eventually("a rotation with a history", || Some(version(&machine, "host/app")).filter(|now| *now > current));
    machine.ok("test -s /etc/security/opasswd");
    let apply = |user: &str, password: &str| {
        let subject = format!(r#""subject":{{"username":"app","password":"{password}"}}"#);
        let request = format!(r#"{{"protocol":1,"step":"apply","deadline_ms":20000,{subject}}}"#) + "\n";
        let worker = "/usr/lib/keywheel/keywheel-rotator run --read /run/keywheel/account.sock local-account";
        let run = format!("setpriv --reuid={user} --regid={user} --clear-groups {worker}");
        machine.ok_with(&run, request.as_bytes())
    };
    assert_eq!(apply("keywheel", "marker-Hist-1"), "{\"answer\":\"yes\"}\n");
    // "required" goes on to the module that sets it, and then says no: what came of it is looked up, not believed.
    let again = apply("keywheel", "marker-Hist-1");
    assert!(again.starts_with(r#"{"answer":"yes","note":"chpasswd failed after the password was set"#), "{again}");
    machine
        .ok("sed -i 's/^password required pam_pwhistory/password requisite pam_pwhistory/' /etc/pam.d/common-password");
    let again = apply("keywheel", "marker-Hist-1");
    assert!(again.contains("in force already"), "{again}");
    assert_eq!(apply("keywheel", "marker-Hist-2"), "{\"answer\":\"yes\"}\n");
    let used = apply("keywheel", "marker-Hist-1");
    assert!(used.contains(r#""no","reason":"policy""#) && used.contains("already used"), "{used}");
    let stranger = apply("games", "marker-Hist-3");
    assert!(stranger.contains(r#""no","reason":"unsupported""#) && stranger.contains("daemon's user"), "{stranger}");

    // root is not in reach.
    machine.ok("keywheel rotate host/root || true");
    assert_eq!(hash("root"), root);
    let journal = machine.journal();
    assert!(
        journal.contains("the password of app was set") && journal.contains("app was refused: Privilege"),
        "{journal}"
    );
    assert!(!journal.contains("first-of-app") && !journal.contains(password.trim()), "i8");
    assert!(!journal.contains("marker-"), "i8");
    machine.ok("systemd-analyze security --threshold=20 keywheel-account@.service");

    machine.ok("dpkg --purge keywheel");
    machine.ok(
        "! test -e /etc/systemd/system/sockets.target.wants/keywheel-account.socket && ! test -e /run/keywheel-account",
    );
}

#[test]
fn on_debian_12_an_account_of_the_host_is_turned_over_by_the_helper() {
    an_account_of_the_host_is_turned_over_by_the_helper("bookworm");
}

#[test]
fn on_debian_13_an_account_of_the_host_is_turned_over_by_the_helper() {
    an_account_of_the_host_is_turned_over_by_the_helper("trixie");
}

/// Somebody else holds the lock of the accounts' files for longer than the helper waits.
#[test]
fn a_change_that_the_host_does_not_get_done_in_time_is_in_doubt_and_left_as_it_was() {
    let machine = installed("bookworm");
    machine
        .ok("useradd -M -s /bin/sh app && echo app:first-of-app | chpasswd && echo app >> /etc/keywheel/accounts.conf");
    machine.ok("systemctl start keywheel-account.socket");
    let step = |step: &str, password: &str| {
        let subject = format!(r#""subject":{{"username":"app","password":"{password}"}}"#);
        let request = format!(r#"{{"protocol":1,"step":"{step}","deadline_ms":40000,{subject}}}"#) + "\n";
        let worker = "/usr/lib/keywheel/keywheel-rotator run --read /run/keywheel/account.sock local-account";
        machine
            .ok_with(&format!("setpriv --reuid=keywheel --clear-groups --regid=keywheel {worker}"), request.as_bytes())
    };
    let lock = "use Fcntl; my $lock = pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, 0);\n\
                open(F, '>>', '/etc/.pwd.lock') && fcntl(F, F_SETLK, $lock) or exit 1;\n\
                open(H, '>', '/run/held'); close(H); sleep 600;\n";
    machine.write("/run/lock.pl", lock);
    machine
        .ok("perl /run/lock.pl >/dev/null 2>&1 & echo $! > /run/holder; until test -e /run/held; do sleep 0.1; done");
    let said = step("apply", "marker-Next-2");
    assert!(said.contains(r#""answer":"in_doubt""#) && said.contains("cut short"), "{said}");
    assert!(step("verify", "marker-Next-2").contains(r#""reason":"credential""#));
    assert_eq!(step("verify", "first-of-app"), "{\"answer\":\"yes\"}\n");
    machine.ok("kill $(cat /run/holder)");
    assert_eq!(step("apply", "marker-Next-2"), "{\"answer\":\"yes\"}\n");
    assert_eq!(step("verify", "marker-Next-2"), "{\"answer\":\"yes\"}\n");
    // Nothing is left running, and no call is kept as failed.
    assert_eq!(machine.ok("systemctl list-units --failed --no-legend --plain 'keywheel-account@*'"), "");
}
