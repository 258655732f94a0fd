//! Workers that get no memory.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::kit::{begin, own_role_config, pause, settles_and_logs_in};
use crate::support::{PgOptions, Postgres, Setup, rotator_binary};

/// Address space in MiB, from what does not even load the program to what a step takes.
const MEBIBYTES: [u32; 8] = [8, 30, 38, 40, 42, 44, 46, 64];

/// The steps of a rotation: the old password's proof, the change, the new one's proof.
const STEPS: u32 = 3;

#[test]
fn i1_a_worker_that_runs_out_of_memory_at_any_step_loses_nothing() {
    let pg = Postgres::start(PgOptions::default());
    pg.create_login("app", "first-of-app");
    let mut daemon = Setup::new().config(own_role_config(&pg)).start();
    daemon.keywheel_ok(&["import", "app/db"], "first-of-app");
    let at = |name: &str| daemon.scratch.at(name).display().to_string();
    let (real, narrow, left, limit) = (rotator_binary().display().to_string(), at("narrow"), at("left"), at("limit"));
    // The call before which none is left to go gets little; all others, what they want.
    let script = format!(
        "#!/bin/sh\nleft=$(cat {left}); echo $((left - 1)) > {left}\n\
         [ $left = 1 ] && exec prlimit --as=$(cat {limit}) {real} \"$@\"\nexec {real} \"$@\"\n"
    );
    fs::write(&narrow, script).expect("a script");
    fs::set_permissions(&narrow, PermissionsExt::from_mode(0o755)).expect("its mode");
    fs::write(&left, "0").expect("a count");
    daemon.general = daemon.general.replace(&real, &narrow);
    daemon.configure(&own_role_config(&pg));
    daemon.restart();
    let mut version = 1;
    for step in 1..=STEPS {
        let mut died = 0;
        for mebibytes in MEBIBYTES {
            fs::write(&limit, (mebibytes << 20).to_string()).expect("a limit");
            fs::write(&left, step.to_string()).expect("a count");
            let doubts = daemon.log().matches("in doubt; a login decides").count();
            assert!(begin(&daemon, "app/db"));
            pause(20);
            let now = settles_and_logs_in(&daemon, &pg, "app/db").version;
            assert_eq!(now, version + 1, "step {step} with {mebibytes} MiB");
            version = now;
            died += u32::from(daemon.log().matches("in doubt; a login decides").count() > doubts);
        }
        println!("step {step}: {died} of {} workers ran out of memory", MEBIBYTES.len());
        assert!((1..MEBIBYTES.len() as u32).contains(&died), "from none to enough");
    }
}
