//! What apply would answer, as far as an agent says it without a change.

use keywheel_protocol::{By, Reply, Request};

use super::change;
use super::session::Agent;
use super::table::View;
use super::target::Target;
use super::{login_of, settable};
use crate::deadline::Deadline;
use crate::step::{self, noted};

pub(super) async fn rehearse(request: &Request, deadline: Deadline) -> Result<Reply, Reply> {
    let subject = settable(request)?;
    let target = Target::of(request)?;
    let (by, _) = step::changer(request, &subject)?;
    let mut agent = Agent::reach(&target, deadline).await?;
    let user = login_of(&agent, request)?;
    let view = View::of(&mut agent, &user, subject.username).await?;
    match by {
        By::Account => {
            view.checked(subject.username)?;
            change::may_change_own(&mut agent, &user).await?;
        }
        By::Admin => {
            change::locked(&view, &user)?;
            change::may_make(&mut agent, &user, subject.username).await?;
        }
    }
    Ok(noted(view.warning(subject.username)))
}
