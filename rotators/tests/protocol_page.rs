//! PROTOCOL.md shows only what is really spoken.

use keywheel_protocol::{decode_reply, decode_request};

#[test]
fn every_example_on_the_page_is_a_message() {
    let page = include_str!("../PROTOCOL.md");
    let blocks = page.split("```json\n").skip(1).filter_map(|block| block.split("\n```").next());
    let (mut requests, mut replies) = (0, 0);
    for line in blocks.flat_map(str::lines) {
        if line.contains("\"answer\":") {
            decode_reply(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
            replies += 1;
        } else if line.contains("\"step\":") {
            decode_request(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
            requests += 1;
        } else {
            assert!(line.starts_with("{\"current\":"), "what is {line}?");
        }
    }
    assert!(requests >= 3 && replies >= 6);
}

#[test]
fn every_word_of_the_protocol_is_explained() {
    let page = include_str!("../PROTOCOL.md");
    for word in [
        "describe",
        "apply",
        "verify",
        "retire",
        "discover",
        "yes",
        "no",
        "not_reached",
        "in_doubt",
        "policy",
        "credential",
        "locked",
        "privilege",
        "missing",
        "too_soon",
        "unsupported",
        "ours",
        "theirs",
        "replaces",
        "both",
        "replace",
        "alternate",
        "overlap",
        "ephemeral",
        "retry_after_s",
        "note",
        "token",
        "deadline_ms",
        "1,048,576",
        "rehearse",
        "lockout",
        "ssh_key",
    ] {
        assert!(page.contains(word), "{word}");
    }
}

/// The cell of the page's table that is called `name`.
fn row<'a>(page: &'a str, name: &str) -> &'a str {
    page.lines().find_map(|line| line.strip_prefix(&format!("| {name} | "))).unwrap_or_else(|| panic!("no row {name}"))
}

/// Names of the values, in lower case, as they are written everywhere.
fn names<T: std::fmt::Debug>(values: &[T]) -> Vec<String> {
    values.iter().map(|value| format!("{value:?}").to_lowercase()).collect()
}

#[test]
fn the_page_of_each_kind_says_what_the_kind_says_of_itself() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(top.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let readme = read("README.md");
    let examples: String = std::fs::read_dir(top.join("config/examples"))
        .expect("the examples")
        .map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("read"))
        .collect();
    for kind in keywheel_rotators::KINDS {
        let (name, said) = (kind.name, (kind.describe)());
        let page = read(&format!("docs/rotators/{name}.md"));
        assert!(row(&page, "origin").starts_with(&names(&[said.origin])[0]), "{name}");
        assert!(!row(&page, "overlap").is_empty(), "{name}");
        // The default stands first.
        let in_order = |text: &str| {
            let mut found: Vec<_> = ["replace", "alternate", "overlap", "ephemeral"]
                .into_iter()
                .filter_map(|strategy| Some((text.find(&format!("`{strategy}`"))?, strategy.to_owned())))
                .collect();
            found.sort();
            found.into_iter().map(|(_, strategy)| strategy).collect::<Vec<_>>()
        };
        assert_eq!(in_order(row(&page, "strategies")), names(&said.strategies), "{name}");
        assert_eq!(row(&page, "steps").trim_end_matches(" |"), names(&said.steps).join(", "), "{name}");
        for setting in said.target.iter().chain(&said.credential) {
            assert!(page.contains(&format!("`{}`", setting.name)), "{name}: {} is not on its page", setting.name);
        }
        assert!(page.contains("\n## Limits\n"), "{name}");
        let listed = readme.lines().find(|line| line.starts_with(&format!("| [`{name}`](docs/rotators/{name}.md) |")));
        let cells: Vec<&str> = listed.unwrap_or_else(|| panic!("{name} is not in README.md")).split(" | ").collect();
        assert_eq!(in_order(cells[2]), names(&said.strategies), "{name} in README.md");
        assert!(examples.contains(&format!("kind = \"{name}\"")), "{name} has no example");
    }
}
