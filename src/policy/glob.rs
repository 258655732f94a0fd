//! Patterns with stars.

/// Whether `text` fits `pattern`. `**` stands for any characters, `*` for any but `divider`; all of them if there is no
/// divider. An empty run fits too.
///
/// Never exponential: only the last star of each kind is ever taken back.
/// That is enough, since whatever an earlier one could take, the later one can take as well.
pub(super) fn fits(pattern: &[u8], text: &[u8], divider: Option<u8>) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on, in the pattern and in the text, if what follows the star does not fit.
    let mut one: Option<(usize, usize)> = None;
    let mut any: Option<(usize, usize)> = None;
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            any = Some((p, t));
            one = None;
        } else if pattern.get(p) == Some(&b'*') {
            p += 1;
            one = Some((p, t));
        } else if p == pattern.len() && t == text.len() {
            return true;
        } else if t < text.len() && pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after, taken)) =
            one.filter(|(_, taken)| text.get(*taken).is_some_and(|c| Some(*c) != divider))
        {
            (p, t) = (after, taken + 1);
            one = Some((p, t));
        } else if let Some((after, taken)) = any.filter(|(_, taken)| *taken < text.len()) {
            (p, t) = (after, taken + 1);
            any = Some((p, t));
            one = None;
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by its definition.
    fn fits_by_definition(pattern: &[u8], text: &[u8], divider: Option<u8>) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|n| fits_by_definition(rest, &text[n..], divider)),
            [b'*', rest @ ..] => {
                let run = text.iter().take_while(|c| Some(**c) != divider).count();
                (0..=run).any(|n| fits_by_definition(rest, &text[n..], divider))
            }
            [c, rest @ ..] => text.first() == Some(c) && fits_by_definition(rest, &text[1..], divider),
        }
    }

    #[test]
    fn stars_stay_within_a_part_and_double_stars_do_not() {
        for (pattern, text, fit) in [
            ("billing/*", "billing/db", true),
            ("billing/*", "billing/eu/db", false),
            ("billing/**", "billing/eu/db", true),
            ("*/db", "billing/db", true),
            ("*/db", "billing/eu/db", false),
            ("**/db", "billing/eu/db", true),
            ("**", "billing/eu/db", true),
            ("*", "billing/db", false),
            ("a*c/b", "abc/b", true),
            ("web-*", "web-", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes(), Some(b'/')), fit, "{pattern} {text}");
        }
        assert!(fits(b"worker@*.service", b"worker@eu/1.service", None));
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let pattern = "*a".repeat(60) + "**b" + &"*a".repeat(60);
        assert!(!fits(pattern.as_bytes(), "a".repeat(128).as_bytes(), Some(b'/')));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn fitting_agrees_with_its_definition(pattern in "([ab/]|\\*|\\*\\*){0,9}", text in "[ab/]{0,10}") {
            for divider in [Some(b'/'), None] {
                let expected = fits_by_definition(pattern.as_bytes(), text.as_bytes(), divider);
                prop_assert_eq!(fits(pattern.as_bytes(), text.as_bytes(), divider), expected, "{} {}", pattern, text);
            }
        }
    }
}
