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
