//! A door for the fuzzer to configuration files. Not in any build but its own and that of the tests.

use std::path::Path;

use keywheel_protocol::Description;

use super::*;
use crate::rotation::splitmix;
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_seconds(1_792_800_000);
/// Stands in no file of the fuzzer's.
const MARKER: &str = "Hunter2!";
/// What nobody should write into a configuration, in all shapes.
const SECRETS: &str = "
[credential.zz]
password = \"Hunter2! a\"
private_key = \"\"\"
Hunter2! b
\"\"\"
[credential.zz.secret]
value = 'Hunter2! c'
";

/// Reads `text` as the configuration in `folder`. What is refused is told with its places; what is accepted works (I12);
/// and a secret in it is never shown (I8).
pub fn config(folder: &Path, text: &str, describe: &mut dyn FnMut(&str, &Daemon) -> Result<Description, String>) {
    let file = folder.join("keywheel.toml");
    let mut read = |text: &str| {
        std::fs::write(&file, text).expect("written");
        load(&file, NOW, describe)
    };
    match read(text) {
        Err(problems) => are_told(&problems, text),
        Ok(loaded) => {
            works(&loaded.config);
            let again = read(text).expect("it was accepted").config;
            assert_eq!(diff(&loaded.config, &again), [""; 0]);
            assert_eq!(reloadable(&loaded.config, &again), Ok(()));
        }
    }
    if !text.contains(MARKER) {
        let problems = read(&format!("{text}{SECRETS}")).expect_err("there are secrets in it");
        let shown = format!("{problems:?}{}", problems.render(false));
        assert!(!shown.contains(MARKER), "{shown}");
    }
}

fn are_told(problems: &Problems, text: &str) {
    assert!(!problems.0.is_empty());
    let lines = text.lines().count() + 1;
    for problem in &problems.0 {
        assert!(problem.line <= lines && problem.length > 0 && !problem.message.is_empty(), "{problem:?}");
        assert!(problem.source_column > 0 && problem.column <= text.chars().count() + 1, "{problem:?}");
    }
    let played_with = |shown: String| shown.chars().any(|letter| letter.is_control() && letter != '\n');
    assert!(!played_with(problems.render(false)), "{problems:?}");
    assert!(problems.render(true).len() >= problems.render(false).len());
}

fn works(config: &Config) {
    for (name, credential) in &config.credentials {
        let found = config.credential(name).expect("it is there");
        assert_eq!((&found.name, &found.target.name), (name, &credential.target.name));
        assert!(config.targets.contains_key(&credential.target.name));
        assert!(credential.target.admin.as_ref().is_none_or(|admin| config.credentials.contains_key(admin)));
        let due = credential.schedule.next_due(NOW, credential.seed);
        assert!(due.is_none_or(|due| due > NOW), "{name} is due at {due:?}");
        let mut drawn = 0;
        let secret = credential.policy.generate(&mut |bytes| {
            bytes.fill_with(|| {
                drawn += 1;
                splitmix(drawn) as u8
            });
        });
        assert!(secret.is_none_or(|secret| !secret.is_empty()) && credential.policy.entropy_bits() > 0.0, "{name}");
        let _ = (credential.policy.describe(), credential.schedule.describe(), config.grants.covering(name));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::describe;

    #[test]
    fn configurations_that_the_fuzzer_kept_pass() {
        let folder = tempfile::tempdir().expect("a folder");
        crate::corpus::each_text("config", |text| super::config(folder.path(), text, &mut describe));
    }
}
