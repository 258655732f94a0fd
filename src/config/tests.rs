mod hostile;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_protocol::{Access, By, Description, Makes, Origin, Overlap, Setting, SettingKind, Step, Strategy};

use super::*;
use crate::ids::{CredentialName, TargetName};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

fn setting(name: &str, kind: SettingKind, required: bool, default: Option<&str>) -> Setting {
    let default = default.map(str::to_owned);
    Setting {
        name: name.to_owned(),
        kind,
        required,
        default,
        help: format!("the {name}"),
        access: Access::None,
        logs_in: false,
    }
}

pub(super) fn describe(kind: &str, _daemon: &Daemon) -> Result<Description, String> {
    let target = match kind {
        "postgres" | "mysql" => {
            let modes = ["disable", "prefer", "require", "verify-ca", "verify-full"].map(str::to_owned).to_vec();
            vec![
                setting("host", SettingKind::Text, true, None),
                setting("port", SettingKind::Port, false, Some("5432")),
                setting("database", SettingKind::Text, false, Some("postgres")),
                setting("tls", SettingKind::Choice(modes), false, Some("verify-full")),
                setting("ca_file", SettingKind::Path, false, None),
            ]
        }
        "ldap" => vec![
            setting("host", SettingKind::Text, true, None),
            setting("port", SettingKind::Port, false, Some("636")),
            setting("ca_file", SettingKind::Path, false, None),
            setting("base", SettingKind::Text, false, None),
            setting("replicas", SettingKind::Text, false, None),
        ],
        "htpasswd" => vec![
            setting("path", SettingKind::Path, true, None),
            setting("cost", SettingKind::Integer, false, Some("10")),
            setting("create", SettingKind::Boolean, false, Some("false")),
        ],
        "rabbitmq" => {
            vec![setting("host", SettingKind::Text, true, None), setting("ca_file", SettingKind::Path, false, None)]
        }
        "http-api-key" => {
            vec![setting("host", SettingKind::Text, true, None), setting("service", SettingKind::Path, true, None)]
        }
        "aws-iam" => vec![],
        "sha256file" => vec![setting("path", SettingKind::Path, true, None)],
        "careless" => vec![setting("token", SettingKind::Text, true, None)],
        "grabbing" => vec![setting("admin", SettingKind::Text, false, None)],
        "accounts" | "minting" | "one-way" => vec![],
        "misfit" => vec![setting("port", SettingKind::Port, false, Some("many"))],
        _ => return Err("no such program".to_owned()),
    };
    let account = setting("account", SettingKind::Text, true, None);
    let credential = match kind {
        "accounts" => vec![account],
        "rabbitmq" => vec![account, setting("vhost", SettingKind::Text, false, Some("/"))],
        "aws-iam" => vec![account, setting("smtp_region", SettingKind::Text, false, None)],
        _ => vec![],
    };
    let minting = matches!(kind, "minting" | "http-api-key" | "aws-iam");
    let mut steps = vec![Step::Describe, Step::Apply, Step::Verify, Step::Retire];
    steps.retain(|step| kind != "one-way" || *step != Step::Verify);
    Ok(Description {
        kind: kind.to_owned(),
        summary: "For tests".to_owned(),
        origin: if minting { Origin::Theirs } else { Origin::Ours },
        makes: Makes::Password,
        needs_login: true,
        overlap: if minting { Overlap::Both } else { Overlap::Replaces },
        strategies: if minting { vec![Strategy::Overlap] } else { vec![Strategy::Replace, Strategy::Alternate] },
        steps,
        target,
        credential,
    })
}

/// A folder with the files of a configuration.
struct Files(tempfile::TempDir);

impl Files {
    fn new(text: &str) -> Self {
        let files = Self(tempfile::tempdir().expect("a folder"));
        files.write("keywheel.toml", text);
        files
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        path
    }

    fn load(&self) -> Result<Loaded, Problems> {
        load(&self.0.path().join("keywheel.toml"), NOW, &mut describe)
    }

    fn problems(&self) -> Vec<Problem> {
        self.load().map(|_| ()).expect_err("refused").0
    }
}

fn good(text: &str) -> Loaded {
    Files::new(text).load().unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)).expect(name)
}

const HTPASSWD: &str = "[target.web]\nkind = \"htpasswd\"\npath = \"/etc/web\"\n";

/// Each mistake, where it is shown, and words of the message and of the help.
#[test]
fn every_mistake_is_shown_where_it_stands_with_what_to_do() {
    let sum = "0".repeat(63);
    let with_target = |text: &str| format!("{HTPASSWD}{text}");
    let cases = [
        // Sections and keys.
        ("[limit]", (1, 2), "`limit`", "did you mean `limits`?"),
        ("[daemon]\nstate_dri = \"/x\"", (2, 1), "`state_dri`", "did you mean `state_dir`?"),
        ("[daemon]\nstate_dir = \"x\"", (2, 13), "absolute path", "from /"),
        ("[daemon]\nlog = \"xml\"", (2, 7), "\"xml\"", "\"text\", \"json\""),
        ("[daemon]\nlog = 1", (2, 7), "a whole number", ""),
        ("daemon = 1", (1, 1), "should be a table", ""),
        ("[daemon\n", (1, 8), "", ""),
        ("[daemon]\nlog = \"text\"\nlog = \"text\"", (3, 1), "duplicate", ""),
        // Values.
        ("[limits]\nrotations = 0", (2, 13), "between 1 and 4096", ""),
        ("[limits]\nrotations = 99999999999999999999", (2, 13), "too large", ""),
        ("[limits]\nwait_max = \"5\"", (2, 12), "not a duration", "1h30m"),
        ("[limits]\nwait_max = \"99d\"", (2, 12), "between 1s and 1d", ""),
        ("[limits]\nfree_floor = \"5MB\"", (2, 14), "not a size", "64MiB"),
        ("[key]\nfile = \"/k\"\npassphrase = true", (1, 2), "one source", "keep one"),
        ("[operators]\nusers = [\"root\", \"no-such-user\"]", (2, 18), "no such user", ""),
        ("[operators]\ngroups = 4294967295", (2, 10), "no such group", ""),
        ("[operators]\nusers = []", (2, 9), "empty", "leave `users` out"),
        // Generation.
        ("[generation.g]\nlength = 9", (1, 13), "bits of entropy", "weak = "),
        ("[generation.g]\nlength = 9\nweak = \"\"", (1, 13), "bits of entropy", "weak = "),
        ("[generation.g]\nkind = \"passwort\"", (2, 8), "\"passwort\"", "\"passphrase\""),
        ("[generation.g]\nlength = 4", (1, 13), "length = 4 is outside", "set length"),
        // Targets.
        ("[target.\"A b\"]\nkind = \"htpasswd\"\npath = \"/x\"", (1, 9), "can't name a target", "`a-b`"),
        ("[target.t]", (1, 9), "`kind` is missing", "rotator list"),
        ("[target.t]\nkind = \"postgers\"", (2, 8), "no such program", "rotators_dir"),
        ("[target.t]\nkind = \"htpasswd\"", (1, 9), "`path` is missing", "the path"),
        ("[target.t]\nkind = \"htpasswd\"\npath = \"x\"", (3, 8), "absolute path", ""),
        ("[target.t]\nkind = \"htpasswd\"\npath = \"/x\"\ncots = 4", (4, 1), "`cots`", "did you mean `cost`?"),
        ("[target.t]\nkind = \"htpasswd\"\npath = \"/x\"\ncost = \"4\"", (4, 8), "a string", ""),
        ("[target.t]\nkind = \"postgres\"\nhost = \"h\"\nport = 65536", (4, 8), "not a port", "1 to 65535"),
        ("[target.t]\nkind = \"postgres\"\nhost = \"h\"\ntls = \"on\"", (4, 7), "\"on\"", "verify-full"),
        ("[target.t]\nkind = \"misfit\"", (1, 9), "does not fit", "`port`"),
        (
            "[target.t]\nkind = \"htpasswd\"\npath = \"/x\"\nadmin = \"x\"",
            (4, 9),
            "no credential x",
            "[credential.\"x\"]",
        ),
        // Credentials.
        ("[credential.c]\naccount = \"a\"", (1, 13), "`target` is missing", "[target.*]"),
        (&with_target("[credential.c]\ntarget = \"wob\""), (5, 10), "no target \"wob\"", "did you mean `web`?"),
        (
            &with_target("[credential.c]\ntarget = \"web\"\naccounts = [\"a\", \"b\"]"),
            (4, 13),
            "needs the admin",
            "`admin`",
        ),
        (&with_target("[credential.c]\ntarget = \"web\"\nchange_by = \"admin\""), (4, 13), "needs an admin", "`admin`"),
        (&with_target("[credential.c]\ntarget = \"web\"\nstrategy = \"overlap\""), (4, 13), "can't do strategy", ""),
        (&with_target("[credential.c]\ntarget = \"web\"\ngeneration = \"g\""), (6, 14), "no [generation.g]", ""),
        (&with_target("[credential.c]\ntarget = \"web\"\nschedule = \"daily\""), (6, 12), "not a schedule", "cron"),
        (
            &with_target("[credential.c]\ntarget = \"web\"\nschedule = { cron = \"0 3 * *\" }"),
            (6, 12),
            "five fields",
            "minute",
        ),
        (
            &with_target("[credential.c]\ntarget = \"web\"\nschedule = { zone = \"UTC\" }"),
            (6, 12),
            "either `cron` or",
            "",
        ),
        (&with_target("[credential.c]\ntarget = \"web\"\ninitial = { }"), (6, 1), "one source", "keep one"),
        (
            &with_target(
                "[credential.c]\ntarget = \"web\"\naccount = \"Bo\"\n[credential.d]\ntarget = \"web\"\naccount = \"bO\"",
            ),
            (7, 13),
            "turned over by c already",
            "one credential",
        ),
        // Grants.
        (&with_target("[credential.c]\ntarget = \"web\"\n[grant.g]\ncredentials = \"c\""), (6, 8), "no condition", ""),
        ("[grant.g]\ncredentials = \"*\"\nunit = \"x.service\"\nuser = []", (4, 8), "empty", "`user`"),
        ("[grant.g]\ncredentials = \"*\"\nunit = [\"\"]", (3, 9), "empty", ""),
        ("[grant.g]\ncredentials = \"*\"\nexe = \"bin/x\"", (3, 7), "absolute path", ""),
        (&format!("[grant.g]\ncredentials = \"*\"\nsha256 = \"{sum}\""), (3, 10), "64 hexadecimal", "sha256sum"),
        // Secrets.
        ("[daemon]\npassword = \"hunter2\"", (2, 1), "secrets never stand", "keywheel import NAME"),
        (
            &with_target("[credential.c]\ntarget = \"web\"\ninitial = { file = \"/x\", secret = \"hunter2\" }"),
            (6, 26),
            "secrets never stand",
            "keywheel import c",
        ),
        ("[target.t]\nkind = \"careless\"\ntoken = \"hunter2\"", (3, 1), "secrets never stand", "import NAME"),
        ("[key]\npassphrase = \"hunter2\"", (2, 14), "true or false", ""),
        ("[daemon]\npassword = hunter2", (2, 12), "", ""),
    ];
    for (text, (line, column), message, help) in cases {
        let problems = Files::new(text).problems();
        let found = problems.iter().find(|problem| {
            (problem.line, problem.column) == (line, column)
                && problem.message.contains(message)
                && problem.help.as_deref().unwrap_or_default().contains(help)
        });
        assert!(found.is_some(), "{line}:{column} {message:?} {help:?} is not in\n{}", Problems(problems));
        assert!(!format!("{problems:?}{}", Problems(problems.clone())).contains("hunter2"), "{text}");
    }
}

#[test]
fn all_mistakes_of_all_files_are_told_at_once_and_in_order() {
    let files = Files::new("[daemon]\nlog = 1\nx = 1\n[limits]\nrotations = 0\nhistory = \"5\"\n[nonsense]\n");
    files.write("conf.d/10-broken.toml", "[target\n");
    files.write("conf.d/20-more.toml", "[credential.c]\ntarget = \"none\"\nschedule = 3\n");
    files.write("conf.d/30-latin.toml", b"# \xe4\n");
    files.write("conf.d/not-read.txt", "?");
    files.write("conf.d/.hidden.toml", "?");
    let problems = files.problems();
    let places: Vec<(String, usize)> = problems
        .iter()
        .map(|problem| (problem.file.file_name().expect("a name").to_string_lossy().into_owned(), problem.line))
        .collect();
    let expected = [
        ("10-broken.toml", 1),
        ("20-more.toml", 2),
        ("20-more.toml", 3),
        ("30-latin.toml", 1),
        ("keywheel.toml", 2),
        ("keywheel.toml", 3),
        ("keywheel.toml", 5),
        ("keywheel.toml", 6),
        ("keywheel.toml", 7),
    ];
    assert_eq!(places, expected.map(|(file, line)| (file.to_owned(), line)), "{}", Problems(problems));
}

#[test]
fn a_name_that_stands_in_two_files_is_refused_with_both_places() {
    let files = Files::new(HTPASSWD);
    files.write("conf.d/a.toml", "\n[target.web]\nkind = \"htpasswd\"\npath = \"/other\"\n");
    let problems = files.problems();
    let [problem] = problems.as_slice() else { panic!("{}", Problems(problems)) };
    assert!(problem.file.ends_with("conf.d/a.toml"));
    assert_eq!(problem.line, 2);
    assert!(problem.help.as_deref().is_some_and(|help| help.contains("keywheel.toml:1")), "{problem:?}");
}

#[test]
fn files_that_others_could_change_are_not_read() {
    let files = Files::new("[daemon]\n");
    let main = files.0.path().join("keywheel.toml");
    for mode in [0o664, 0o646] {
        fs::set_permissions(&main, fs::Permissions::from_mode(mode)).expect("set");
        let problems = files.problems();
        assert_eq!(problems[0].line, 0);
        assert!(problems[0].help.as_deref().is_some_and(|help| help.contains("chmod go-w")), "{problems:?}");
    }
    fs::remove_file(&main).expect("removed");
    assert!(files.problems()[0].message.contains("can't be read"));
    // Nor does the daemon wait for someone to write to a pipe.
    nix::unistd::mkfifo(&main, nix::sys::stat::Mode::S_IRUSR).expect("made");
    assert!(files.problems()[0].message.contains("not a regular file"));
}

#[test]
fn admins_that_change_each_other_are_refused() {
    let target = |name: &str, admin: &str| {
        format!("[target.{name}]\nkind = \"htpasswd\"\npath = \"/{name}\"\nadmin = \"{admin}\"\n")
    };
    let credential = |name: &str, on: &str| format!("[credential.{name}]\ntarget = \"{on}\"\naccount = \"{name}\"\n");
    let circle = target("one", "b") + &target("two", "a") + &credential("a", "one") + &credential("b", "two");
    let problems = Files::new(&circle).problems();
    assert!(problems[0].message.contains("change each other"), "{}", Problems(problems));
    good(&circle.replace("account = \"a\"", "account = \"a\"\nchange_by = \"account\""));
    // An admin on its own target changes itself.
    let own = good(&(target("one", "a") + &credential("a", "one") + &credential("b", "one")));
    let by = |name: &str| own.config.credentials[&name.parse::<CredentialName>().expect("a name")].change_by;
    assert_eq!((by("a"), by("b")), (By::Account, By::Admin));
}

#[test]
fn what_names_something_that_is_there_and_wrong_is_not_called_wrong_too() {
    let text = "[generation.g]\nlength = 4\n[target.t]\nkind = \"none\"\n[target.u]\nkind = \"htpasswd\"\npath = \"/u\"\n\
        admin = \"c\"\n[credential.c]\ntarget = \"t\"\ngeneration = \"g\"\n[grant.x]\ncredentials = \"c\"\nuser = 0\n";
    let lines: Vec<usize> = Files::new(text).problems().iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 4]);
}

#[test]
fn a_stated_reason_lets_a_weak_policy_pass() {
    good(
        "[generation.pin]\nkind = \"password\"\nlength = 8\ndigits = 8\nstart_with_letter = false\nweak = \"a PIN pad\"\n",
    );
}

#[test]
fn defaults_are_filled_in_with_the_type_that_a_given_value_has() {
    let text = "[target.pg]\nkind = \"postgres\"\nhost = \"h\"\n[credential.c]\ntarget = \"pg\"\naccount = \"a\"\n";
    let Loaded { config, warnings } = good(text);
    assert_eq!(warnings, []);
    let target = &config.targets[&"pg".parse::<TargetName>().expect("a name")];
    assert_eq!(target.settings["port"], 5432);
    assert_eq!(target.settings["tls"], "verify-full");
    assert!(!target.settings.contains_key("ca_file"));
    let credential = &config.credentials[&"c".parse::<CredentialName>().expect("a name")];
    assert_eq!((credential.strategy, credential.change_by), (Strategy::Replace, By::Account));
    assert_eq!((credential.rules.grace, credential.rules.overlaps), (Duration::ZERO, false));
    // The first 8 bytes of `printf c | sha256sum`.
    assert_eq!(credential.seed, 0x2e7d_2c03_a950_7ae2);
}

#[test]
fn a_grant_that_covers_nothing_yet_is_only_a_warning() {
    let loaded = good("[grant.later]\ncredentials = \"later/*\"\nuser = 0\n");
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].message.contains("later/*"));
}

#[test]
fn a_grant_on_a_program_alone_is_warned_of() {
    let with = |conditions: &str| {
        good(&format!("[grant.g]\ncredentials = \"later/*\"\n{conditions}\n"))
            .warnings
            .iter()
            .filter(|warning| warning.message.contains("the program alone"))
            .count()
    };
    let (exe, sum) = ("exe = \"/usr/bin/true\"", format!("sha256 = \"{}\"", "a0".repeat(32)));
    assert_eq!((with(exe), with(&sum)), (1, 1));
    for more in ["user = 0", "group = 0", "unit = \"a.service\""] {
        assert_eq!(with(&format!("{exe}\n{more}")), 0, "{more}");
    }
}

#[test]
fn the_shipped_configuration_is_accepted_without_a_warning() {
    assert_eq!(good(&shipped("keywheel.toml")).warnings, []);
}

/// What the file's comments say is the default must be it, and every key they show must exist.
#[test]
fn the_commented_defaults_are_the_defaults() {
    let text = shipped("keywheel.toml");
    let (sections, _) = text.split_once("# What secrets look like").expect("sections without names");
    let live: String = sections.lines().map(|line| uncommented(line) + "\n").collect();
    let live = live.replace("users = []\ngroups = []\n", "");
    let live = live.replace("systemd_credential = \"keywheel.key\"\n", "").replace("passphrase = true\n", "");
    let (given, default) = (good(&live).config, good("").config);
    assert_eq!((&given.daemon, &given.key, &given.limits), (&default.daemon, &default.key, &default.limits));
    let keys = format!("{:?}", given.limits).matches(": ").count();
    let shown = live.split("[limits]").nth(1).expect("limits").matches(" = ").count();
    assert_eq!(keys, shown, "each limit stands in the file");

    let named = text[sections.len()..].lines().map(|line| uncommented(line) + "\n").collect::<String>();
    let problems = Files::new(&named.replace("billing\"", "root\"")).problems();
    let unknown: Vec<&Problem> = problems.iter().filter(|problem| problem.message.contains("unknown")).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// `#key = value` and `#[table]` are commented out; prose has a space after the sign.
fn uncommented(line: &str) -> String {
    line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned()
}

#[test]
fn a_reload_tells_what_changed_and_nothing_else() {
    let text = shipped("examples/postgres-alternate.toml");
    let before = good(&text).config;
    let files = Files::new(&text);
    let later = load(&files.0.path().join("keywheel.toml"), NOW + Duration::from_secs(99), &mut describe);
    assert_eq!(diff(&before, &later.expect("accepted").config), Vec::<String>::new(), "time alone changes nothing");
    let changed = text
        .replace("0 4 * * *", "0 5 * * *")
        .replace("failures = 10", "failures = 9")
        .replace("[grant.shop]", "[grant.store]")
        + "[limits]\nhistory = 7\n[target.new]\nkind = \"htpasswd\"\npath = \"/x\"\n";
    let after = good(&changed).config;
    assert_eq!(
        diff(&before, &after),
        [
            "target new added",
            "credential shop/db changed: schedule, lockout",
            "credential shop/pg-admin changed: lockout",
            "grant shop removed",
            "grant store added",
            "limits changed: history",
        ]
    );
    assert_eq!(reloadable(&before, &after), Ok(()));
}

#[test]
fn places_and_the_key_need_a_restart() {
    let before = good("").config;
    let after = good("[daemon]\nstate_dir = \"/a\"\naudit_file = \"/b\"\n[key]\npassphrase = true\n").config;
    assert_eq!(reloadable(&before, &after).map_err(|fixed| fixed.len()), Err(3));
}
