//! The accounts of a host.

use keywheel_protocol::{Account, Reason, Reply, Request, Yes};
use serde_json::{Map, Value};

use super::{changing_session, dialect, root};
use crate::deadline::Deadline;
use crate::ssh::Target;
use crate::step::Stage;

/// The most accounts that are listed; a note says so if there are more.
const ACCOUNTS_MAX: usize = 5_000;
/// Groups whose members may become root by sudo or su as Debian, Red Hat, SUSE and the BSDs ship them.
const ROOTS: [&str; 4] = ["root", "sudo", "wheel", "admin"];

pub(super) fn discover(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let target = Target::of(request)?;
    if dialect(request)?.is_some() {
        return Err(Reply::no(Reason::Unsupported, "the accounts of a device are not listed"));
    }
    let session = changing_session(request, &target, deadline)?;
    let passwd = session.run("getent passwd", b"", Stage::Question)?;
    let states = session.run(&root(&target, "passwd -S -a 2>/dev/null"), b"", Stage::Question)?;
    let state = |name: &str| {
        let line = states.output.lines().find(|line| line.split(' ').next() == Some(name))?;
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    };
    let groups = session.run("getent group", b"", Stage::Question)?;
    let become_root = become_root(&groups.output);
    let more = passwd.output.lines().count() > ACCOUNTS_MAX;
    let mut accounts = Vec::new();
    for line in passwd.output.lines().take(ACCOUNTS_MAX) {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields[..] else { continue };
        let mut facts = Map::new();
        facts.insert("uid".to_owned(), uid.parse::<u32>().map_or(Value::Null, Value::from));
        facts.insert("home".to_owned(), home.into());
        facts.insert("can_login".to_owned(), (!shell.ends_with("nologin") && !shell.ends_with("/false")).into());
        facts.insert("superuser".to_owned(), (uid == "0").into());
        if become_root.iter().any(|one| *one == name || *one == gid) {
            facts.insert("privileged".to_owned(), true.into());
        }
        if let Some((state, changed)) = state(name) {
            facts.insert("locked".to_owned(), (state == "L").into());
            facts.insert("no_password".to_owned(), (state == "NP").into());
            facts.insert("password_changed".to_owned(), changed.into());
        }
        accounts.push(Account { name: name.to_owned(), facts });
    }
    let note = more.then(|| format!("only the first {ACCOUNTS_MAX} accounts are listed"));
    Ok(Reply::Yes(Yes { accounts: Some(accounts), note, ..Yes::default() }))
}

/// Members of the groups that may become root where their rules are as shipped, and those groups' numbers: who has one as
/// the first group is not among its members.
fn become_root(groups: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields[..] else { continue };
        if ROOTS.contains(&name) {
            found.push(gid);
            found.extend(members.split(',').filter(|member| !member.is_empty()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_sudo_and_wheel_are_privileged_and_so_is_who_has_it_as_first_group() {
        let groups = "root:x:0:\nsudo:x:27:ann,ben\nusers:x:100:eve\nwheel:*:10:\nodd\n";
        assert_eq!(become_root(groups), ["0", "27", "ann", "ben", "10"]);
    }
}
