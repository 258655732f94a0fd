//! The query APIs of IAM and STS, spoken with one access key.

use std::time::{SystemTime, UNIX_EPOCH};

use keywheel_protocol::{Fields, Reason, Reply, Secret};
use reqwest::Method;
use roxmltree::Document;

use super::sign::{Signed, stamp};
use crate::deadline::Deadline;
use crate::http::{Answer, Call, Server, form, wrong};
use crate::settings::Settings;
use crate::step::{Stage, lost, short};

/// The port of HTTPS.
const PORT: u32 = 443;
/// The endpoint of the main partition, and the region that it signs for.
const HOST: &str = "iam.amazonaws.com";
const REGION: &str = "us-east-1";

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// One of the two services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Iam,
    Sts,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Iam => "iam",
            Self::Sts => "sts",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Iam => "2010-05-08",
            Self::Sts => "2011-06-15",
        }
    }
}

/// The two endpoints.
pub(super) struct Aws {
    iam: Server,
    sts: Server,
    region: String,
}

/// An access key that signs.
#[derive(Clone, Copy)]
pub(super) struct AccessKey<'a> {
    pub(super) id: &'a str,
    secret: &'a Secret,
    /// Only temporary keys have one.
    session: Option<&'a Secret>,
}

impl<'a> AccessKey<'a> {
    /// Out of the fields of a version.
    pub(super) fn of(fields: Option<&'a Fields>, whose: &str) -> Result<Self, Reply> {
        let field = |name: &str| {
            let absent = || {
                wrong(&format!("the {whose} has no field {name}; import it with access_key_id and secret_access_key"))
            };
            fields.and_then(|fields| fields.get(name)).ok_or_else(absent)
        };
        let session = fields.and_then(|fields| fields.get("session_token"));
        Ok(Self { id: field("access_key_id")?.expose(), secret: field("secret_access_key")?, session })
    }
}

impl Aws {
    /// Checks the settings. No connection is made yet.
    pub(super) fn of(settings: Settings<'_>, deadline: Deadline) -> Result<Self, Reply> {
        let host = settings.text("host")?.unwrap_or(HOST);
        let region = settings.text("region")?.unwrap_or(REGION).to_owned();
        let regional = format!("sts.{region}.amazonaws.com");
        let sts = settings.text("sts_host")?.unwrap_or(if host == HOST { &regional } else { host });
        let at = |host| Server::at(host, settings, PORT, deadline);
        Ok(Self { iam: at(host)?, sts: at(sts)?, region })
    }

    /// The time that is left for the step.
    pub(super) fn deadline(&self) -> Deadline {
        self.iam.deadline()
    }

    /// Performs an action; the answer in XML.
    pub(super) async fn act(
        &self,
        service: Service,
        key: AccessKey<'_>,
        parameters: &[(&str, &str)],
        stage: Stage,
    ) -> Result<Answer, Reply> {
        let server = if service == Service::Iam { &self.iam } else { &self.sts };
        let version = ("Version", service.version());
        let body = form(parameters.iter().copied().chain([version]));
        let time = now();
        let mut headers = vec![("content-type", FORM), ("host", server.authority()), ("x-amz-date", &time)];
        headers.extend(key.session.map(|session| ("x-amz-security-token", session.expose())));
        let signed = Signed {
            method: "POST",
            query: "",
            headers: &headers,
            body: body.as_bytes(),
            time: &time,
            region: &self.region,
            service: service.name(),
        };
        let mut call =
            Call::new(Method::POST, "/").header("authorization", &signed.authorization(key.id, key.secret))?;
        // The client writes the host itself, and the body brings its kind along.
        for (name, value) in headers.iter().filter(|(name, _)| name.starts_with("x-")) {
            call = call.header(name, value)?;
        }
        let answer = server.send(call.body(FORM, body.as_bytes())?, stage).await?;
        if answer.is_success() { Ok(answer) } else { Err(verdict(&answer, key, stage)) }
    }
}

#[expect(clippy::disallowed_methods, reason = "a signature carries the time; nothing is decided by it")]
fn now() -> String {
    stamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
}

/// Reads an answer. What can't be read after a change leaves it in doubt.
pub(super) fn read<T>(answer: &Answer, stage: Stage, of: impl FnOnce(&Document<'_>) -> Option<T>) -> Result<T, Reply> {
    let document = answer.text().and_then(|text| Document::parse(text).ok());
    // The parser's words may quote the answer.
    document.as_ref().and_then(of).ok_or_else(|| lost(stage, "the answer is not the XML that was expected"))
}

/// The text of the first element of this name.
pub(super) fn first(document: &Document<'_>, name: &str) -> Option<String> {
    text_of(document.root(), name)
}

/// The text of the first element of this name below another.
pub(super) fn text_of(node: roxmltree::Node<'_, '_>, name: &str) -> Option<String> {
    let found = node.descendants().find(|node| node.tag_name().name() == name)?;
    found.text().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// What a refusal means.
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html>
fn verdict(answer: &Answer, key: AccessKey<'_>, stage: Stage) -> Reply {
    let document = answer.text().and_then(|text| Document::parse(text).ok());
    let Some(code) = document.as_ref().and_then(|document| first(document, "Code")) else {
        return answer.verdict(stage);
    };
    let message = document.as_ref().and_then(|document| first(document, "Message")).unwrap_or_default();
    let words = short(format!("{message} ({code})"));
    match code.as_str() {
        // Also the words for a clock that goes wrong.
        "SignatureDoesNotMatch" | "RequestExpired" | "InvalidSignatureException"
            if code == "RequestExpired" || words.contains("expired") || words.contains("not yet current") =>
        {
            Reply::not_reached(format!("nothing was changed: {words}; is this host's clock right?"))
        }
        "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "InvalidAccessKeyId"
        | "UnrecognizedClientException"
        | "AuthFailure"
        | "ExpiredToken"
        | "InvalidSignatureException" => {
            Reply::no(Reason::Credential, format!("the access key {} was refused: {words}", brief(key.id)))
        }
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "OptInRequired" => {
            Reply::no(Reason::Privilege, words)
        }
        "NoSuchEntity" => Reply::no(Reason::Missing, words),
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "ConcurrentModification" | "LimitExceeded" => {
            Reply::not_reached(format!("nothing was changed: {words}"))
        }
        _ if answer.status() >= 500 => lost(stage, &words),
        _ => wrong(&words),
    }
}

/// An id that people recognise: whole ids are fields of the secret, and blotted out of messages.
pub(super) fn brief(id: &str) -> String {
    match (id.get(..4), id.len().checked_sub(4).and_then(|at| id.get(at..))) {
        (Some(head), Some(tail)) if id.len() > 8 => format!("{head}…{tail}"),
        _ => id.to_owned(),
    }
}
