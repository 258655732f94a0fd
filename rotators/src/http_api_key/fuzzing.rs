//! A door for the fuzzer to the descriptions of services. Not in any other build.

use keywheel_protocol::{Fields, Secret};

use super::service::Service;
use super::template::Values;

/// Reads `text` as the description of a service and makes each of its requests, with `value` for every placeholder.
pub fn service(text: &str, value: &str) {
    let Ok(service) = Service::parse(text) else { return };
    let login = Fields::login(value, Secret::new(value.to_owned()));
    let all = Some(value);
    let values = Values { account: all, extra: all, token: all, key: all, id: all, login: Some(&login) };
    for ask in [&service.list.ask, &service.create.ask, &service.revoke.ask, &service.prove.ask] {
        for values in [&values, &Values::default()] {
            let _ = ask.call(values).and_then(|call| service.login.authorise(call, values));
        }
    }
}
