//! What a second person says, or that nobody does.

use std::sync::Arc;

use super::{Why, demand};
use crate::machine::{Answer, Approval, Command, Machine};
use crate::task::{Actor, Millis};

/// Who cancels a task that nobody answered for.
const NOBODY: &str = "policy";

impl Machine {
    pub(super) fn approval_asked(&mut self, until: Millis, at: Millis) -> Result<(), Why> {
        demand(self.next(at).start.contains(&Command::Ask), || "nobody is to be asked".to_owned())?;
        self.approval = Approval::Asked { at, until };
        Ok(())
    }

    pub(super) fn approved(&mut self, actor: &Actor, reason: &str, at: Millis) -> Result<(), Why> {
        self.refuses_decision(true, actor, at).map_or(Ok(()), Err)?;
        self.approval = Approval::Granted(answer(actor, reason, at));
        Ok(())
    }

    pub(super) fn refused(&mut self, actor: &Actor, reason: &str, at: Millis) -> Result<(), Why> {
        self.refuses_decision(false, actor, at).map_or(Ok(()), Err)?;
        self.approval = Approval::Refused(answer(actor, reason, at));
        self.cancel = Some((actor.clone(), format!("not approved: {reason}")));
        self.turned(at);
        Ok(())
    }

    pub(super) fn expired(&mut self, at: Millis) -> Result<(), Why> {
        let over = self.next(at).start.contains(&Command::Expire);
        demand(over, || "the time for an approval is not over".to_owned())?;
        self.approval = Approval::Expired { at };
        let nobody = Actor { name: NOBODY.to_owned(), via: NOBODY.to_owned() };
        self.cancel = Some((nobody, "nobody approved it in time".to_owned()));
        self.turned(at);
        Ok(())
    }
}

fn answer(actor: &Actor, reason: &str, at: Millis) -> Arc<Answer> {
    Arc::new(Answer { actor: actor.clone(), reason: reason.to_owned(), at })
}
