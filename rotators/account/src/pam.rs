//! Which modules PAM asks on this host, and with which arguments: read from /etc/pam.d, since PAM itself can't be asked.

use crate::host::Host;

/// The arguments of each line that names `module`, in any service; empty if PAM does not ask it.
pub(crate) fn lines(host: &Host, module: &str) -> Vec<Vec<String>> {
    let files = host.read_all("pam.d");
    files.iter().flat_map(|(_, text)| text.lines()).filter_map(|line| arguments(line, module)).collect()
}

fn arguments(line: &str, module: &str) -> Option<Vec<String>> {
    let line = line.split('#').next()?;
    let mut words = line.split_whitespace();
    words.find(|word| word.rsplit('/').next() == Some(module))?;
    Some(words.map(str::to_owned).collect())
}

/// The value of `name` on a line `name = value`, empty for a bare `name`, as the files in /etc/security have it.
pub(crate) fn setting(text: &str, name: &str) -> Option<String> {
    let value = |line: &str| {
        let line = line.split('#').next()?.trim();
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        (key.trim() == name).then(|| value.trim().to_owned())
    };
    text.lines().filter_map(value).next_back()
}

/// The value of an argument `name=value`, empty for a bare `name`.
pub(crate) fn argument(arguments: &[String], name: &str) -> Option<String> {
    let value = |word: &String| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        (key == name).then(|| value.to_owned())
    };
    arguments.iter().filter_map(value).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_their_settings_are_found_and_comments_are_not() {
        let line = "auth\t[default=die] /lib/security/pam_faillock.so authfail deny=5 # not unlock_time=1";
        let found = arguments(line, "pam_faillock.so").expect("the module");
        assert_eq!(found, ["authfail", "deny=5"]);
        assert_eq!((argument(&found, "deny"), argument(&found, "unlock_time")), (Some("5".to_owned()), None));
        assert_eq!(arguments("#auth required pam_faillock.so", "pam_faillock.so"), None);
        assert_eq!(arguments("auth required my_pam_faillock.so", "pam_faillock.so"), None);
        let text = "# deny = 9\ndeny = 4\neven_deny_root\n";
        assert_eq!(
            (setting(text, "deny"), setting(text, "even_deny_root")),
            (Some("4".to_owned()), Some(String::new()))
        );
    }
}
