//! A door for the fuzzer to what rotators are asked and answer. Not in any build but its own and that of the tests.

use keywheel_protocol::{
    Fields, WireError, decode_fields, decode_reply, decode_request, encode_fields, encode_reply, encode_request,
};
use serde_json::Map;
use zeroize::Zeroizing;

use super::*;

/// Reads the first line of `bytes` as a request and the second as its answer: what is understood is written and read as
/// the same, and no secret of the request comes back in the words of the answer (I8).
pub fn reply(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (asked, answered) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let request = decode_request(asked);
    if let Ok(request) = &request {
        survives(request, encode_request, decode_request);
    }
    if let Ok(fields) = decode_fields(answered) {
        survives(&fields, encode_fields, decode_fields);
    }
    let Ok(reply) = decode_reply(answered) else { return };
    survives(&reply, encode_reply, decode_reply);
    if let Reply::Yes(Yes { description: Some(description), .. }) = &reply {
        let _ = (description.permissions(&Map::new(), &Map::new()), description.needs_login(&Map::new()));
    }
    if let Ok(request) = request {
        let told = words(redacted(reply, &request));
        let logins = request.login.iter().map(|login| &login.fields);
        request.subject.iter().chain(logins).for_each(|fields| says_nothing_of(&told, fields));
    }
}

/// Written and read again, it is written the same.
fn survives<T>(
    message: &T,
    write: fn(&T) -> Result<Zeroizing<Vec<u8>>, WireError>,
    read: fn(&[u8]) -> Result<T, WireError>,
) {
    match write(message) {
        // Escaped, it may outgrow a line.
        Err(error) => assert_eq!(error, WireError::TooLong),
        Ok(line) => {
            let again = read(&line).expect("what was written can be read");
            assert_eq!(*write(&again).expect("written again"), *line);
        }
    }
}

fn words(reply: Reply) -> String {
    match reply {
        Reply::Yes(yes) => yes.note.unwrap_or_default(),
        Reply::No { message, .. } | Reply::NotReached { message } | Reply::InDoubt { message } => message,
    }
}

fn says_nothing_of(told: &str, fields: &Fields) {
    for (name, value) in fields.iter().filter(|(name, _)| *name != "username") {
        let value = value.expose();
        // Stars are what stands in the place of secrets.
        let hidden = value.chars().count() < 4 || value.contains('*') || !told.contains(value);
        assert!(hidden, "{name} comes back: {told:?}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn replies_that_the_fuzzer_kept_pass() {
        crate::corpus::each("reply", super::reply);
    }
}
