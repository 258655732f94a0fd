//! The values of a file that look like secrets, by their names.

use keywheel_protocol::{Account, Reply, Request, Yes};
use serde_json::{Map, Value};

use super::document::{Leaf, Text};
use super::format;
use crate::file_swap::SwapFile;
use crate::settings::Settings;

/// The most values that are listed; a note says so if there are more.
const VALUES_MAX: usize = 1_000;
/// Parts of names that secrets have.
const TELLING: [&str; 8] = ["password", "passwd", "passphrase", "pwd", "secret", "token", "credential", "apikey"];

pub(super) fn discover(request: &Request) -> Result<Reply, Reply> {
    let target = Settings(&request.target);
    let format = format(target)?;
    let file = SwapFile::read(target.required("path")?)?;
    let text = Text::of(file.contents(), format)?;
    let leaves = format.leaves(text.as_str())?;
    let mut found: Vec<Account> = leaves.iter().filter(|leaf| tells(&leaf.name)).map(account).collect();
    let note = (found.len() > VALUES_MAX).then(|| format!("only the first {VALUES_MAX} values are listed"));
    found.truncate(VALUES_MAX);
    Ok(Reply::Yes(Yes { accounts: Some(found), note, ..Yes::default() }))
}

fn account(leaf: &Leaf) -> Account {
    let mut facts = Map::from_iter([("can_be_set".to_owned(), Value::Bool(leaf.fixed.is_none()))]);
    if let Some(why) = leaf.fixed {
        facts.insert("why_not".to_owned(), why.into());
    }
    Account { name: leaf.name.clone(), facts }
}

/// Whether a name ends in a word for secrets. In XML, the element says what its attribute `value` is.
fn tells(name: &str) -> bool {
    let own = name.strip_suffix("/@value").unwrap_or(name).to_ascii_lowercase();
    let last = own.rsplit(['.', '/']).next().unwrap_or_default().trim_end_matches(['\'', ']']);
    TELLING.iter().any(|word| last.contains(word)) || last.ends_with("key")
}
