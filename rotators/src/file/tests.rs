//! Tricky documents, in each format: what is changed, what is left alone, and what comes back.

use keywheel_protocol::{Reason, Reply};
use proptest::prelude::*;

use super::document::{FORMATS, Format, Text};

/// A value that needs quoting or escapes in most formats.
const NASTY: &str = r#"a"b'c\d <&>]$x`#;:=%{}!"#;

fn set(format: Format, before: &[u8], key: &str, new: &str) -> Result<Vec<u8>, (Reason, String)> {
    let reason = |reply| match reply {
        Reply::No { reason, message, .. } => (reason, message),
        other => panic!("{other:?}"),
    };
    let text = Text::of(before, format).map_err(reason)?;
    let edited = format.set(text.as_str(), key, new).map_err(reason)?;
    let bytes = text.bytes_of(&edited).map_err(reason)?.to_vec();
    let again = Text::of(&bytes, format).map_err(reason)?;
    assert_eq!(format.value(again.as_str(), key).map_err(reason)?.as_str(), new);
    Ok(bytes)
}

/// In `document`, `«…»` marks the value that is replaced.
#[track_caller]
fn becomes(format: Format, document: &str, key: &str, new: &str, written: &str) {
    let (head, rest) = document.split_once('«').expect("a mark");
    let (old, tail) = rest.split_once('»').expect("a mark");
    let after = set(format, format!("{head}{old}{tail}").as_bytes(), key, new);
    let after = String::from_utf8(after.unwrap_or_else(|why| panic!("{key} of {document:?}: {why:?}"))).expect("UTF-8");
    assert_eq!(after, format!("{head}{written}{tail}"));
}

#[track_caller]
fn refuses(format: Format, document: &str, key: &str, new: &str, expected: Reason) {
    match set(format, document.as_bytes(), key, new) {
        Err((reason, _)) => assert_eq!(reason, expected, "{document:?}"),
        Ok(after) => panic!("{document:?} became {:?}", String::from_utf8_lossy(&after)),
    }
}

#[test]
fn ini_keeps_comments_quotes_and_line_ends() {
    let format = Format::Ini;
    becomes(format, "; c\r\n[db]\r\nuser = a\r\npassword = «old»  \r\n", "db.password", "new", "new");
    becomes(format, "\u{feff}[db]\npassword=«old»", "db.password", "n.e-w_~1", "n.e-w_~1");
    becomes(format, "global=1\nsecret: «x» ; why\n[s]\nsecret=y\n", "secret", "new", "new");
    becomes(format, "[a.b]\nkey = \"«o ; # ld»\"   # why\n", "a.b.key", "n;e#w ü".trim_end_matches(" ü"), "n;e#w");
    becomes(format, "[S]\n\tPassWord\t=\t'«old»'\n\tuser = x\n", "s.password", "it is new", "it is new");
    becomes(format, "[s]\nk=«»\nl=2\n", "s.k", "new", "new");
    becomes(format, "[s]\n# k=0\n;k=1\nk=«p;q»\n", "s.k", "new", "new");
    for document in [
        "[s]\nk=1\nk=2\n",
        "[s]\nk=1\n[t]\n[s]\nK=2\n",
        "[s]\nk=1\n  2\n",
        "[s]\nk=a\\\nl=2\n",
        "[s]\nk=\"a\\\"b\"\n",
        "[s]\nk=a\"b\n",
    ] {
        refuses(format, document, "s.k", "new", Reason::Unsupported);
    }
    refuses(format, "[s]\nl=1\n#k=1\n", "s.k", "new", Reason::Missing);
    for new in ["a b", "a;b", "a#b", "a%b", "a$b", "\"a\"", "ü", " a", "a\\"] {
        refuses(format, "[s]\nk=1\n", "s.k", new, Reason::Policy);
    }
    refuses(format, "[s]\nk=\"1\"\n", "s.k", "a\"b", Reason::Policy);
}

#[test]
fn env_keeps_export_quotes_and_comments() {
    let format = Format::Env;
    becomes(format, "# A=1\nexport A=«old» # why\nB=2\n", "A", "n-e_w~.", "n-e_w~.");
    becomes(format, "A='«old»'\r\nB=2\r\n", "A", "a\"$(x) `y`", "a\"$(x) `y`");
    becomes(format, "  A=\"«o\\\"l\\\\d»\"", "A", "q\"b\\s$v`t", "q\\\"b\\\\s\\$v\\`t");
    becomes(format, "X=\"two\nA=lines\"\nA=«old»\n", "A", "new", "new");
    becomes(format, "\n\nA=«»\n", "A", "new", "new");
    for document in [
        "A=1\nA=2\n",
        "A=\"$B\"\n",
        "A=\"a`b`\"\n",
        "A=\"a\nb\"\n",
        "A='a'\"b\"\n",
        "A=a b\n",
        "A=a\\ b\n",
        "A='a\\b'\n",
        "A=\"a\\nb\"\n",
        "A=\"open\n",
    ] {
        refuses(format, document, "A", "new", Reason::Unsupported);
    }
    refuses(format, "#A=1\nAA=2\nA =3\n", "A", "new", Reason::Missing);
    for new in ["a b", "a'b", "a\"b", "a$b", "#a", "~a", "ü"] {
        refuses(format, "A=1\n", "A", new, Reason::Policy);
    }
    refuses(format, "A='1'\n", "A", "a'b", Reason::Policy);
}

#[test]
fn properties_keep_separators_and_get_escapes() {
    let format = Format::Properties;
    becomes(
        format,
        "# db.password=1\n! c \\\ndb.password = «old»\n",
        "db.password",
        NASTY,
        &NASTY.replace('\\', "\\\\"),
    );
    becomes(format, "db.password:«o\\\n   ld»\r\nnext=1\r\n", "db.password", "new", "new");
    becomes(format, "a\\ b\\=c «\\u00fcx\\t»", "a b=c", " ü𝄞 ", "\\ \\u00fc\\ud834\\udd1e\\u0020");
    becomes(format, "a=1\r\r\nb=«»\n", "b", "=new", "=new");
    refuses(format, "a=1\na:2\n", "a", "new", Reason::Unsupported);
    refuses(format, "a=\\u12\n", "a", "new", Reason::Unsupported);
    refuses(format, "a=1\n", "a", "x${y}", Reason::Policy);
    // A value that goes on is one value, and what looks like a key in it is none.
    refuses(format, "a=1\\\nb=2\n", "b", "new", Reason::Missing);
}

#[test]
fn xml_edits_attributes_texts_and_sections() {
    let format = Format::Xml;
    let escaped = "a&quot;b'c\\d &lt;&amp;&gt;]$x`#;:=%{}!";
    becomes(
        format,
        "<?xml version=\"1.0\"?>\r\n<!-- <db password=\"no\"/> -->\r\n<c><db user='x' password = \"«o&amp;ld»\"/></c>",
        "c/db/@password",
        NASTY,
        escaped,
    );
    becomes(format, "<c><p>\n  «old»\n</p></c>\n", "c/p", "n<&>'\"", "n&lt;&amp;&gt;'\"");
    becomes(format, "<c><p><![CDATA[«o<ld»]]></p></c>", "c/p", "n<&>", "n<&>");
    becomes(format, "\u{feff}<c p='«»'/>", "/c/@p", "it's ü", "it&apos;s &#252;");
    becomes(
        format,
        "<c><add key='a' value='1'/><add key='pw' value='«2»'/></c>",
        "c/add[@key='pw']/@value",
        "new",
        "new",
    );
    becomes(format, "<c><u><p>1</p></u><u><p>«2»</p></u></c>", "c/u[2]/p", "new", "new");
    becomes(
        format,
        "<!DOCTYPE c SYSTEM \"http://nowhere.example/c.dtd\">\n<c xmlns='urn:x' p='«1»'/>",
        "c/@p",
        "new",
        "new",
    );
    for document in [
        "<c><p>1</p><p>2</p></c>",
        "<c><p>a<!-- b -->c</p></c>",
        "<c><p>a<i/>b</p></c>",
        "<c><p>a<![CDATA[b]]></p></c>",
        "<c><p><![CDATA[a]]><![CDATA[b]]></p></c>",
        "<!DOCTYPE c [<!ENTITY x 'y'>]><c><p>&x;</p></c>",
        "<c><p>a</c>",
    ] {
        refuses(format, document, "c/p", "new", Reason::Unsupported);
    }
    refuses(format, "<c><p/><q></q></c>", "c/p", "new", Reason::Missing);
    refuses(format, "<c><p>x</p></c>", "c/p[x]", "new", Reason::Unsupported);
    refuses(format, "<c><p>x</p></c>", "c/p", " new", Reason::Policy);
    refuses(format, "<c><p><![CDATA[x]]></p></c>", "c/p", "a]]>b", Reason::Policy);
}

#[test]
fn json_keeps_layout_and_other_escapes() {
    let format = Format::Json;
    becomes(
        format,
        "\u{feff}{\r\n\t\"a\" : { \"b\\u0063\": [1.0e5, {\"p\": «\"o\\u006cd\"» }] }, \"é\": \"\\u00e9\"}",
        "a.bc.1.p",
        NASTY,
        &serde_json::to_string(NASTY).expect("JSON"),
    );
    becomes(format, "{\"a.b\":«\"\"»,\"a\":{\"c\":1}}", "a.b", "ü", "\"ü\"");
    for document in
        ["{\"a\":1}", "{\"a\":\"x\",\"a\":\"y\"}", "{\"a\":\"x\",}", "{\"a\":null}", "// c\n{\"a\":\"x\"}", ""]
    {
        refuses(format, document, "a", "new", Reason::Unsupported);
    }
    refuses(format, "{\"a.b\":\"x\",\"a\":{\"b\":\"y\"}}", "a.b", "new", Reason::Unsupported);
    refuses(format, "{\"a\":{}}", "a", "new", Reason::Missing);
    refuses(format, &"[".repeat(100_000), "a", "new", Reason::Unsupported);
    refuses(format, &format!("{}{}", "[".repeat(100), "]".repeat(100)), "a", "new", Reason::Unsupported);
}

#[test]
fn yaml_keeps_comments_and_quotes_where_it_must() {
    let format = Format::Yaml;
    becomes(
        format,
        "# c\r\ndb:\r\n  password: «old»   # why\r\n  other: [1, 2]\r\n",
        "db.password",
        "n-e.w_~1",
        "n-e.w_~1",
    );
    for new in ["123", "true", "No", "1e5", "a: b", "a #b", "-a", "~", "it's", "null", "0x1f", "@a", "*a"] {
        becomes(format, "ü: x\np: «old»\n", "p", new, &format!("'{}'", new.replace('\'', "''")));
    }
    becomes(format, "p: «'o''ld'»\nq: 'x'", "p", "it's", "'it''s'");
    becomes(format, "p: «\"o\\x6cd\"» # c\n", "p", NASTY, &serde_json::to_string(NASTY).expect("JSON"));
    becomes(format, "p: «old»\n", "p", "ü", "\"ü\"");
    becomes(format, "{a: {b: «old», c: [x, y]}, d: \"e\"}", "a.b", "new", "new");
    becomes(format, "a:\n- x\n- p: «old»\n  q: |\n    two\n    lines\n", "a.1.p", "new", "new");
    becomes(format, "a: 1\n---\nb: «old»\n...\n", "b", "new", "new");
    becomes(format, "12: «34»\n", "12", "new", "new");
    for document in [
        "p: |\n  old\n",
        "p: >-\n  old\n",
        "p: old\n  goes on\n",
        "p: \"old\n  goes on\"\n",
        "p: &a old\nq: *a\n",
        "q: &a old\np: *a\n",
        "p: a\np: b\n",
        "p: !vault old\n",
        "p: !!str old\n",
        "p:\nq: 1\n",
        "p: a\n---\np: b\n",
        "p: [a\n",
    ] {
        refuses(format, document, "p", "new", Reason::Unsupported);
    }
    refuses(format, "a: &x\n  p: old\nb: *x\n", "a.p", "new", Reason::Unsupported);
    refuses(format, "a: &x\n  p: old\nb:\n  <<: *x\n", "b.p", "new", Reason::Missing);
}

#[test]
fn toml_keeps_comments_and_literals() {
    let format = Format::Toml;
    becomes(
        format,
        "# c\r\n[db] # d\r\npassword = «\"o\\u006cd\"» # e\r\nport = 1_000\r\n",
        "db.password",
        NASTY,
        &serde_json::to_string(NASTY).expect("JSON"),
    );
    becomes(format, "a.\"b c\" = «'old'»", "a.b c", "n\"\\w", "'n\"\\w'");
    becomes(format, "a = {b = [ 1, «'old'» ]}", "a.b.1", "it's", "\"it's\"");
    becomes(format, "[[s]]\np=\"1\"\n[[s]]\np=«\"2\"»\n", "s.1.p", "ü", "\"ü\"");
    for document in
        ["p = 1", "p = \"\"\"old\"\"\"", "p = '''\nold'''", "p = \"a\"\np = \"b\"", "p = ", "p = 1979-05-27"]
    {
        refuses(format, document, "p", "new", Reason::Unsupported);
    }
}

#[test]
fn what_is_no_text_or_too_large_or_too_long_is_left_alone() {
    for (_, format) in FORMATS {
        let huge = vec![b' '; (4 << 20) + 1];
        assert!(matches!(set(format, &huge, "a", "new"), Err((Reason::Unsupported, why)) if why.contains("larger")));
        assert!(matches!(set(format, b"a\0", "a", "new"), Err((Reason::Unsupported, why)) if why.contains("NUL")));
    }
    for new in ["", "a\nb", "a\tb", "\u{7f}", &"x".repeat(4097)] {
        refuses(Format::Json, "{\"a\":\"x\"}", "a", new, Reason::Policy);
    }
}

#[test]
fn files_in_the_old_encodings_keep_their_bytes() {
    let after = set(Format::Properties, b"# M\xfcller\np=old\n", "p", "ne\u{fc}").expect("set");
    assert_eq!(after, b"# M\xfcller\np=ne\\u00fc\n");
    let after =
        set(Format::Xml, b"<?xml version='1.0' encoding='ISO-8859-1'?><c m='\xfc' p='old'/>", "c/@p", "ne\u{fc}");
    assert_eq!(after.expect("set"), b"<?xml version='1.0' encoding='ISO-8859-1'?><c m='\xfc' p='ne&#252;'/>");
    assert!(matches!(set(Format::Yaml, b"a: \xfc\np: x", "p", "new"), Err((Reason::Unsupported, _))));
}

/// A document with the value in the middle, and the key to it.
const DOCUMENTS: [(Format, &str, &str, &str); 12] = [
    (Format::Ini, "[s]\nk = \"", "\" ; c\nl=1\n", "s.k"),
    (Format::Ini, "[s]\r\nk=", "\r\nl=1\r\n", "s.k"),
    (Format::Env, "A=1\nK='", "'\nB=2", "K"),
    (Format::Env, "A=1\nK=\"", "\"\nB=2", "K"),
    (Format::Env, "A=1\nK=", " # c\nB=2", "K"),
    (Format::Properties, "a=1\nk=", "\nb=2", "k"),
    (Format::Xml, "<c><p q='", "'/><p/></c>", "c/p/@q"),
    (Format::Xml, "<c><p> ", " </p><q/></c>", "c/p"),
    (Format::Json, "{\"a\":1,\"k\":\"", "\",\"b\":[]}", "k"),
    (Format::Yaml, "a: 1\nk: ", " # c\nb: [x]\n", "k"),
    (Format::Yaml, "a: 1\nk: '", "' # c\nb: [x]\n", "k"),
    (Format::Toml, "a = 1\nk = '", "' # c\nb = ['x']\n", "k"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is set is read again, or was refused as a value; the rest of the bytes is the same, and setting the old value
    /// again gives the old file where the format has one way to write it.
    #[test]
    fn what_is_set_is_read_and_nothing_else_changes(new in "[ -~]{1,40}|[a-zA-Z0-9._~-]{32}|\\PC{1,20}") {
        for (format, head, tail, key) in DOCUMENTS {
            let before = format!("{head}old{tail}");
            match set(format, before.as_bytes(), key, &new) {
                Ok(after) => {
                    let (head, tail) = (head.trim_end_matches(['"', '\'']), tail.trim_start_matches(['"', '\'']));
                    prop_assert!(after.starts_with(head.as_bytes()) && after.ends_with(tail.as_bytes()), "{:?}", after);
                }
                Err((reason, why)) => prop_assert!(reason == Reason::Policy, "{format:?} {new:?}: {reason:?} {why}"),
            }
        }
    }

    /// What keywheel generates by default can be written everywhere.
    #[test]
    fn generated_passwords_fit(new in "[a-zA-Z][a-zA-Z0-9._~-]{31}") {
        for (format, head, tail, key) in DOCUMENTS {
            let document = format!("{head}old{tail}");
            let done = set(format, document.as_bytes(), key, &new);
            prop_assert!(done.is_ok(), "{document:?}: {done:?}");
        }
    }

    /// No document brings an editor down.
    #[test]
    fn no_document_is_a_panic(document in "[ -~\\n\\r\\t\u{e9}\"'<>&=:\\\\\\[\\]{}#;]{0,200}") {
        for (_, format) in FORMATS {
            if let Ok(leaves) = format.leaves(&document) {
                for leaf in leaves {
                    let _ = format.set(&document, &leaf.name, "new");
                }
            }
        }
    }
}
