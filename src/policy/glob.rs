//! Patterns of names: `*` stands for any characters within a part, `**` for one or more whole parts.

/// Whether a name of parts divided by slashes fits `pattern`.
pub(super) fn fits_name(pattern: &str, name: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let name: Vec<&str> = name.split('/').collect();
    fits_parts(&pattern, &name)
}

fn fits_parts(pattern: &[&str], name: &[&str]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((&"**", rest)) => (1..=name.len()).any(|taken| fits_parts(rest, &name[taken..])),
        Some((part, rest)) => {
            name.split_first().is_some_and(|(first, after)| fits(part, first) && fits_parts(rest, after))
        }
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any characters.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        // The earliest place leaves the most for what follows.
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_its_part_and_two_cross() {
        for (pattern, name, fit) in [
            ("billing/db", "billing/db", true),
            ("billing/db", "billing/db2", false),
            ("billing/*", "billing/db", true),
            ("billing/*", "billing/eu/db", false),
            ("billing/*", "billing", false),
            ("billing/**", "billing/eu/db", true),
            ("billing/**", "billing", false),
            ("**", "a/b/c", true),
            ("**/db", "a/b/db", true),
            ("**/db", "db", false),
            ("*-db", "eu-db", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*a*", "bab", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(fits_name(pattern, name), fit, "{pattern} {name}");
        }
    }
}
