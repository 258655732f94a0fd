//! A local user without a grant on a host with the package.

use crate::support::eventually;
use crate::{configure, installed, unit};

#[test]
fn a_user_without_a_grant_finds_a_secret_nowhere_on_a_host_with_the_package() {
    const MARKER: &str = "Mark3r-of-the-package-c3f0";
    let machine = installed("bookworm");
    machine.ok("useradd --create-home stranger && mkdir -m 0700 /var/lib/host && mkdir /usr/local/lib/host");
    // A login that is tried for as long as the test looks.
    let check = "#!/bin/sh\nIFS= read -r word; grep -qxF \"$word\" /var/lib/host/password || exit 1\n\
                 [ ! -e /var/lib/host/stay ] || sleep 600\n";
    machine.write("/usr/local/lib/host/verify", check);
    machine.ok("cp /bin/false /usr/local/lib/host/apply && chmod 0755 /usr/local/lib/host/*");
    machine.write("/var/lib/host/password", &format!("{MARKER}\n"));
    machine.ok("chown -R keywheel:keywheel /var/lib/host");
    configure(
        &machine,
        "[target.host]\nkind = \"exec\"\napply = \"/usr/local/lib/host/apply\"\nverify = \"/usr/local/lib/host/verify\"\n\
         writes = \"/var/lib/host\"\nstep_timeout = \"5m\"\n\
         [credential.\"app/db\"]\ntarget = \"host\"\naccount = \"app\"\nschedule = \"manual\"\n\
         [grant.app]\ncredentials = \"app/db\"\nunit = \"app.service\"\n",
    );
    machine.ok_with("keywheel import app/db", MARKER.as_bytes());
    unit(&machine, "app.service", &["app--db"]);
    machine.ok("systemctl start app.service && touch /var/lib/host/stay && keywheel rotate app/db");
    let children = "children() { cat /proc/$1/task/*/children; }";
    let daemon = machine.property("keywheeld.service", "MainPID");
    let pids = eventually("a command with a secret", || {
        let worker = machine.ok(&format!("{children}; children {daemon}")).trim().to_owned();
        let command = machine.run(&format!("{children}; children {worker}"));
        let command = String::from_utf8_lossy(&command.stdout).trim().to_owned();
        (!worker.is_empty() && !command.is_empty()).then(|| [daemon.clone(), worker, command])
    });
    let mut words =
        format!("owner {}\nname app/db\nsocket /run/keywheel/keywheel.sock\n", machine.ok("id -u keywheel").trim());
    words += "closed /run/keywheel/control.sock\nclosed /run/keywheel/systemd.sock\nfolder /run/keywheel\nfolder /usr/lib/keywheel\n";
    words.extend(pids.iter().map(|pid| format!("pid {pid}\n")));
    let kept = "/var/lib/keywheel /var/log/keywheel /etc/keywheel /var/lib/host /run/credentials";
    words += &machine.ok(&format!("find {kept} -type f -printf 'file %p\\n' -o -type d -printf 'folder %p\\n'"));
    assert!(words.contains("file /run/credentials/app.service/app--db") && words.contains("master.key"), "{words}");
    machine.write("/tmp/try_all.pl", include_str!("../outside/attacker/try_all.pl"));
    let as_stranger = "setpriv --reuid=stranger --regid=stranger --init-groups";
    let said = machine.ok_with(&format!("{as_stranger} perl /tmp/try_all.pl /home/stranger/loot"), words.as_bytes());
    let done: Vec<&str> = said.lines().filter(|line| line.ends_with(" 0")).collect();
    assert!(done.is_empty(), "{done:#?}");
    println!("{} tries, each refused", said.lines().count());
    // What the service manager and its journal tell everyone.
    machine.ok(&format!(
        "cd /home/stranger; {as_stranger} sh -c 'journalctl --no-pager; journalctl --no-pager -u keywheeld; \
         systemctl show keywheeld app.service; systemctl status keywheeld app.service; systemctl cat keywheeld; \
         keywheel status; keywheel fetch app/db; keywheel show app/db; ps auxeww; ls -lR /run /tmp /var/tmp' >>loot 2>&1 || true"
    ));
    assert!(
        machine
            .ok("head -c 200 /proc/$(systemctl show --value -p MainPID app.service)/cmdline | tr '\\0' ' '")
            .contains("sleep")
    );
    let found = |what: &str, place: &str| machine.run(&format!("grep -rqF {what} {place}")).status.success();
    assert!(
        found(MARKER, "/run/credentials") && found("keywheeld", "/home/stranger/loot"),
        "the search finds what is there"
    );
    assert!(!found(MARKER, "/home/stranger") && !found("$(cat /etc/keywheel/master.key)", "/home/stranger"));
    assert!(!machine.journal().contains(MARKER), "i8");
    assert!(!found(MARKER, "/var/log /var/lib/systemd /tmp /var/tmp /dev/shm"));
}
