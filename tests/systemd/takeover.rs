//! One daemon after the other on the sockets that systemd holds: restarts, an upgrade, a downgrade.

use std::collections::BTreeSet;

use crate::support::eventually;
use crate::support::nspawn::Machine;
use crate::{configure, installed};

/// Fetches one after the other and by four at a time until told to end; whatever fails is written down.
fn fetch_all_the_time(machine: &Machine) {
    let script = "while [ ! -e /run/fetch/end ]; do keywheel fetch app/key >/run/fetch/got.$1 2>>/run/fetch/failed && \\\n\
                  [ -s /run/fetch/got.$1 ] || echo \"status $?\" >>/run/fetch/failed; echo >>/run/fetch/count; done; \\\n\
                  echo >>/run/fetch/ended\n";
    machine.ok("mkdir -p /run/fetch");
    machine.write("/run/fetch/loop", script);
    machine.ok("for n in 1 2 3 4; do sh /run/fetch/loop $n </dev/null >/dev/null 2>&1 & done");
}

#[test]
fn no_fetch_fails_through_restarts_and_an_upgrade_and_a_downgrade_is_refused_with_words() {
    let machine = installed("bookworm");
    configure(
        &machine,
        "[target.keys]\nkind = \"local\"\n[credential.\"app/key\"]\ntarget = \"keys\"\nschedule = \"manual\"\n\
         [grant.root]\ncredentials = \"**\"\nuser = \"root\"\n",
    );
    machine.ok("keywheel rotate app/key --wait");
    fetch_all_the_time(&machine);
    let count = || machine.ok("wc -l </run/fetch/count").trim().parse::<u64>().expect("a number");
    let mut invocations = BTreeSet::new();
    // The unit does not take a sixth start within five minutes.
    for take_over in ["systemctl restart keywheeld", "dpkg --install /mnt/keywheel.deb", "systemctl restart keywheeld"]
    {
        invocations.insert(machine.property("keywheeld.service", "InvocationID"));
        let before = count();
        machine.ok(take_over);
        machine.wait_for("keywheeld.service", "ActiveState", "active");
        eventually("fetches go on", || (count() > before + 20).then_some(()));
    }
    assert_eq!(invocations.len(), 3);
    machine.ok("touch /run/fetch/end && until [ $(wc -l </run/fetch/ended) = 4 ]; do sleep 0.1; done");
    println!("{} fetches through two restarts and an upgrade", count());
    assert_eq!(machine.ok("cat /run/fetch/failed"), "", "a fetch failed");

    // A store of a later keywheel, and a package of an earlier one.
    machine.ok("systemctl reset-failed keywheeld; systemctl stop 'keywheel*.socket' keywheeld");
    let patch = |byte: &str| {
        machine.ok(&format!(
            "printf '\\{byte}' | dd of=/var/lib/keywheel/store/journal bs=1 seek=8 conv=notrunc status=none"
        ))
    };
    patch("002");
    let sums = || machine.ok("cd /var/lib/keywheel && find . -type f ! -name LOCK -exec sha256sum {} + | sort");
    let before = sums();
    machine.ok(
        "cd /run && dpkg-deb --raw-extract /mnt/keywheel.deb older && sed -i 's/^Version: .*/Version: 0.0.9/' older/DEBIAN/control && \
         dpkg-deb -Znone --build older older.deb",
    );
    let said = machine.run("dpkg --install /run/older.deb");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    machine.wait_for("keywheeld.service", "ActiveState", "failed");
    assert_eq!(machine.property("keywheeld.service", "ExecMainStatus"), "74");
    let journal = machine.journal();
    for words in
        ["has format 2; this keywheel knows formats up to 1", "start the keywheel that wrote it, or a later one"]
    {
        assert!(journal.contains(words), "{journal}");
    }
    let looked = machine.run("keywheel doctor --repair");
    assert!(!looked.status.success() && String::from_utf8_lossy(&looked.stdout).contains("has format 2"));
    assert_eq!(sums(), before, "something was changed");
    // A store that it knows, again.
    patch("001");
    machine.ok("systemctl reset-failed; systemctl start keywheeld && keywheel fetch app/key");
}
