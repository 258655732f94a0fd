//! Configurations that are large, odd, or that would be accepted and then not do what they say.

use std::sync::Arc;

use super::*;
use crate::config::section::PROBLEMS_MAX;

fn refused(text: &str, (line, column): (usize, usize), message: &str, help: &str) {
    let problems = Files::new(text).problems();
    let found = problems.iter().any(|problem| {
        (problem.line, problem.column) == (line, column)
            && problem.message.contains(message)
            && problem.help.as_deref().unwrap_or_default().contains(help)
    });
    assert!(found, "{line}:{column} {message:?} {help:?} is not in\n{}\n{text}", Problems(problems));
}

#[test]
fn i12_what_would_be_ignored_or_fail_later_is_refused() {
    let with = |text: &str| format!("{HTPASSWD}[credential.c]\ntarget = \"web\"\n{text}");
    for (text, place, message, help) in [
        (with("grace = \"10m\""), (6, 9), "no grace", "alternate"),
        (with("strategy = \"ephemeral\""), (4, 13), "can't do", "replace, alternate"),
        (with("lifetime = \"1h\""), (6, 12), "\"ephemeral\" only", "leave it out"),
        (with("leases = 0"), (6, 10), "between 1 and 1000", ""),
        ("[credential.\"a~abcdefgh\"]".to_owned(), (1, 13), "names of leases", "another name"),
        (with("strategy = \"overlap\""), (4, 13), "can't do", "replace, alternate"),
        (with("group = \"Blue Green\""), (6, 9), "can't name a group", "`blue-green`"),
        (with("initial = { systemd_credential = \"a/b\" }"), (6, 34), "can't name a systemd credential", "alone"),
        ("[key]\nsystemd_credential = \"\"".to_owned(), (2, 22), "can't name a systemd credential", ""),
        ("[key]\nsystemd_credential = \"../x\"\nfile = \"/k\"".to_owned(), (1, 2), "one source", "keep one"),
        ("[limits]\nretry_first = \"1h\"\nretry_max = \"1s\"".to_owned(), (3, 13), "shorter than the first", ""),
        ("[limits]\nretry_first = \"1h\"".to_owned(), (2, 15), "longer than the longest", "`retry_max`"),
        ("[generation.\"Strong One\"]".to_owned(), (1, 13), "can't name a policy", "`strong-one`"),
        ("[grant.G]\ncredentials = \"**\"\nuser = 0".to_owned(), (1, 8), "can't name a grant", "`g`"),
        ("[grant.g]\ncredentials = [\"a\", \"b/***\"]\nuser = 0".to_owned(), (2, 21), "no `***`", "`*`"),
        ("[grant.g]\ncredentials = \"a*\"\nunit = [\"x\"]".to_owned(), (3, 9), "no unit can be called", ".service"),
        ("[grant.g]\ncredentials = \"a*\"".to_owned(), (1, 8), "no condition", "`user`, `group`"),
        (
            "[target.t]\nkind = \"minting\"\n[credential.c]\ntarget = \"t\"\ngeneration = \"g\"\n[generation.g]"
                .to_owned(),
            (5, 14),
            "made by the target",
            "leave `generation` out",
        ),
        (
            "[target.t]\nkind = \"accounts\"\n[credential.c]\ntarget = \"t\"".to_owned(),
            (3, 13),
            "`account` is missing",
            "",
        ),
        ("[target.t]\nkind = \"one-way\"".to_owned(), (2, 8), "does not answer the step verify", "rotator list"),
        ("[target.t]\nkind = \"grabbing\"".to_owned(), (2, 8), "calls a setting `admin`", ""),
    ] {
        refused(&text, place, message, help);
    }
}

#[test]
fn a_kind_with_accounts_is_content_with_one_or_two() {
    let target = "[target.t]\nkind = \"accounts\"\nadmin = \"a\"\n[credential.a]\ntarget = \"t\"\naccount = \"root\"\n";
    let config = good(&format!("{target}[credential.c]\ntarget = \"t\"\naccounts = [\"x\", \"y\"]\n")).config;
    let named = |name: &str| &config.credentials[&name.parse::<CredentialName>().expect("a name")];
    assert_eq!((named("a").strategy, named("c").strategy), (Strategy::Replace, Strategy::Alternate));
    assert!(named("a").settings.is_empty(), "the account is no setting");
}

#[test]
fn without_a_word_the_kind_s_first_strategy_is_taken() {
    let config = good("[target.t]\nkind = \"minting\"\n[credential.c]\ntarget = \"t\"\n").config;
    let credential = config.credentials.values().next().expect("one");
    assert_eq!(credential.strategy, Strategy::Overlap);
    assert!(credential.rules.overlaps && credential.rules.grace > Duration::ZERO);
}

#[test]
fn one_account_of_one_system_has_one_credential_even_under_two_targets() {
    let text = "[target.a]\nkind = \"htpasswd\"\npath = \"/x\"\n[target.b]\nkind = \"htpasswd\"\npath = \"/x\"\n\
        [credential.c]\ntarget = \"a\"\naccount = \"app\"\n[credential.d]\ntarget = \"b\"\naccount = \"APP\"\n";
    refused(text, (10, 13), "turned over by c already", "targets a and b are the same system");
    good(&text.replacen("\"/x\"", "\"/y\"", 1));
}

#[test]
fn a_condition_that_can_t_be_read_is_told_once() {
    let text = "[grant.g]\ncredentials = \"later/*\"\nuser = \"no-such-user\"\n";
    let problems = Files::new(text).problems();
    assert_eq!(problems.len(), 1, "{}", Problems(problems));
}

#[test]
fn problems_without_end_are_counted_and_not_shown() {
    let many = 3 * PROBLEMS_MAX;
    let text: String = (0..many).map(|number| format!("[credential.\"app/{number}\"]\ncolour = 1\n")).collect();
    let problems = Files::new(&text).problems();
    assert_eq!(problems.len(), PROBLEMS_MAX + 1);
    // Each of them lacks its target; without one, nobody knows which keys its kind has.
    let last = &problems[PROBLEMS_MAX].message;
    assert!(last.contains(&format!("{} more problems", many - PROBLEMS_MAX)), "{last}");
    let one_line: String = (0..400).map(|number| format!("k{number} = 1, ")).collect();
    let shown = Problems(Files::new(&format!("limits = {{ {one_line} }}\n")).problems()).to_string();
    assert!(shown.len() < 400 * 500, "{} bytes", shown.len());
}

#[test]
fn endless_lines_and_nesting_are_refused_with_words() {
    refused(&format!("[daemon]\nx = [{}]\n", "1,".repeat(50_000)), (2, 1), "longer than 16 KiB", "several lines");
    for deep in [
        format!("x = {}{}", "[".repeat(8000), "]".repeat(8000)),
        format!("x = {}1{}", "{a=".repeat(4000), "}".repeat(4000)),
        format!("{}a = 1", "a.".repeat(8000)),
        format!("[{}a]", "a.".repeat(8000)),
        "[".repeat(16_000),
        "x = [\n".repeat(100_000),
    ] {
        let problems = Files::new(&deep).problems();
        assert!(problems.len() <= PROBLEMS_MAX + 1 && problems[0].line == 1);
    }
}

#[test]
fn odd_text_is_read_or_refused_but_never_a_panic() {
    good("\u{feff}[daemon]\r\nlog = \"json\"\r\n");
    good("# \u{1f511} \u{202e}\n[daemon] # ключ\nlog = 'json'");
    for odd in [
        "\0",
        "[daemon]\nlog = \"\u{1b}[2J\"",
        "=",
        "[[",
        "[daemon]\n\"\" = 1",
        "\u{feff}\u{feff}",
        "a.b.c",
        "x = 1e999",
    ] {
        let shown = Problems(Files::new(odd).problems()).to_string();
        assert!(!shown.contains(['\0', '\u{1b}']), "{shown}");
    }
}

#[test]
fn i8_a_secret_in_several_lines_is_not_shown_either() {
    for text in [
        "[credential.c]\npassword = \"\"\"\nhunter2\n\"\"\" x\n",
        "[credential.c]\npassword = [\n\"hunter2\" \"x\"\n]\n",
        "[credential.c]\npassword = \"\"\"\nhunter2",
        "[credential.c.secret]\nvalue = hunter2\n",
    ] {
        let problems = Files::new(text).problems();
        assert!(problems.len() >= 2, "{text}");
        assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
        assert!(!serde_json::to_string(&problems).expect("JSON").contains("hunter2"));
    }
}

#[test]
fn i8_a_secret_that_a_mistake_above_it_makes_a_part_of_something_else_is_not_quoted() {
    for above in ["[grant.g]\ncredentials = [\"a/b\"\n", "[target.t]\nkind = [\n", "[limits]\nwait_max = {\n"] {
        for secret in ["password = \"hunter2 !\"\n", "[credential.c.secret]\nvalue = 'hunter2 !'\n"] {
            let problems = Files::new(&format!("{above}[credential.c]\n{secret}")).problems();
            let shown = format!("{problems:?}{}", Problems(problems.clone()));
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[test]
fn conf_d_may_be_a_link_and_must_be_ours() {
    let files = Files::new("[daemon]\nlog = \"json\"\n");
    let elsewhere = Files::new("");
    elsewhere.write("parts/web.toml", HTPASSWD);
    let (folder, link) = (elsewhere.0.path().join("parts"), files.0.path().join("conf.d"));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("set");
    std::os::unix::fs::symlink(&folder, &link).expect("linked");
    assert_eq!(files.load().expect("accepted").config.targets.len(), 1);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o775)).expect("set");
    let problems = files.problems();
    assert!(problems[0].message.contains("can write the folder"), "{problems:?}");
    assert_eq!(problems[0].help.as_deref(), Some(format!("`chmod go-w {}`", link.display()).as_str()));
}

#[test]
fn files_of_other_users_are_not_read() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let files = Files::new("[daemon]\n");
    std::os::unix::fs::chown(files.0.path().join("keywheel.toml"), Some(12345), None).expect("given away");
    let problems = files.problems();
    assert!(problems[0].message.contains("belongs to user 12345"), "{problems:?}");
}

#[test]
fn thousands_of_credentials_share_what_is_the_same() {
    let schedule = "schedule = { cron = \"0 3 * * SUN\", zone = \"Europe/Berlin\", window = \"02:00-04:00\" }";
    let credentials: String = (0..5000)
        .map(|number| format!("[credential.\"app/{number}\"]\ntarget = \"web\"\naccount = \"u{number}\"\n{schedule}\n"))
        .collect();
    let files = Files::new(&format!("{HTPASSWD}{credentials}"));
    let mut asked = 0;
    let mut count = |kind: &str, daemon: &Daemon| {
        asked += 1;
        describe(kind, daemon)
    };
    let config = load(&files.0.path().join("keywheel.toml"), NOW, &mut count).expect("accepted").config;
    assert_eq!((config.credentials.len(), asked), (5000, 1));
    let first = config.credentials.values().next().expect("one");
    for credential in config.credentials.values() {
        assert!(Arc::ptr_eq(&first.policy, &credential.policy) && Arc::ptr_eq(&first.target, &credential.target));
    }
}
