//! Confirm buttons: each is for one plan, one person and a few minutes, and works once. The button carries a mark that only we can make;
//! what it stands for waits here, in memory: after a restart, a command is typed again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use kedge_engine::ports::Random;
use kedge_engine::task::{Millis, TaskId};
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// How long a button works: long enough to read a plan, too short to be found the next day.
pub(crate) const LIFE_MS: Millis = 10 * 60_000;
/// Most buttons that wait; the oldest goes.
const MAX_PENDING: usize = 1000;
/// Bytes of a mark: Discord takes 100 characters for all of it.
const MARK: usize = 16;

/// What a button stands for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    /// `slack`, `mattermost` or `discord`, and which of the configured ones.
    pub(crate) chat: String,
    /// The platform's id of the person.
    pub(crate) user: String,
    /// What was typed, for the message.
    pub(crate) said: String,
    /// What is to be done.
    pub(crate) act: Act,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// Submit a task if its plan is still this one.
    Run { workflow: String, params: Value, plan_hash: String },
    /// Take a task back.
    Undo(TaskId),
}

/// Why a button does nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Dead {
    /// The mark is not ours.
    #[error("this button is not one of mine")]
    Forged,
    /// It is too old, was used, or is from before a restart.
    #[error("this button does not work any more: it was used, or is too old; type the command again")]
    Gone,
    /// Somebody else's.
    #[error("this button is for the person who typed the command")]
    NotYours,
}

/// The buttons that wait.
pub(crate) struct Confirms {
    key: [u8; 32],
    pending: Mutex<BTreeMap<String, (Millis, Pending)>>,
}

impl Confirms {
    /// With a key of its own: buttons end with the process.
    pub(crate) fn new(random: &dyn Random) -> Self {
        // An id holds 74 random bits.
        let mut digest = Sha256::new();
        (0..4).for_each(|_| digest.update(random.id()));
        Self { key: digest.finalize().into(), pending: Mutex::default() }
    }

    /// The value of a new button.
    pub(crate) fn offer(&self, pending: Pending, now: Millis, random: &dyn Random) -> String {
        let (nonce, until) = (hex::encode(random.id()), now + LIFE_MS);
        let mark = self.mark(&nonce, until, &pending);
        let mut waiting = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (until, _)| *until > now);
        if waiting.len() >= MAX_PENDING {
            waiting.pop_first();
        }
        waiting.insert(nonce.clone(), (until, pending));
        format!("kc1.{nonce}.{until}.{mark}")
    }

    /// Takes what a pressed button stands for: nobody else gets it again.
    ///
    /// # Errors
    /// [`Dead`], in words for the person.
    pub(crate) fn take(&self, value: &str, chat: &str, user: &str, now: Millis) -> Result<Pending, Dead> {
        let mut parts = value.split('.');
        let (Some("kc1"), Some(nonce), Some(until), Some(mark), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Dead::Forged);
        };
        let mut waiting = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((known_until, pending)) = waiting.get(nonce) else { return Err(Dead::Gone) };
        let ours = hex::decode(mark).is_ok_and(|mark| self.is_mark(&mark, nonce, *known_until, pending));
        if !ours || until != known_until.to_string() {
            return Err(Dead::Forged);
        }
        if *known_until <= now {
            return Err(Dead::Gone);
        }
        if pending.chat != chat || pending.user != user {
            return Err(Dead::NotYours);
        }
        waiting.remove(nonce).map(|(_, pending)| pending).ok_or(Dead::Gone)
    }

    fn mac(&self, nonce: &str, until: Millis, pending: &Pending) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        let bound = match &pending.act {
            Act::Run { plan_hash, .. } => plan_hash.as_str(),
            Act::Undo(task) => task.as_str(),
        };
        for part in [nonce, &until.to_string(), &pending.chat, &pending.user, bound] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }

    fn mark(&self, nonce: &str, until: Millis, pending: &Pending) -> String {
        hex::encode(&self.mac(nonce, until, pending).finalize().into_bytes()[..MARK])
    }

    fn is_mark(&self, mark: &[u8], nonce: &str, until: Millis, pending: &Pending) -> bool {
        mark.len() == MARK && self.mac(nonce, until, pending).verify_truncated_left(mark).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::FakeRandom;

    fn pending(user: &str) -> Pending {
        let act = Act::Run {
            workflow: "migrate".to_owned(),
            params: json!({"site": "a.test"}),
            plan_hash: "ab12".to_owned(),
        };
        Pending { chat: "slack".to_owned(), user: user.to_owned(), said: "migrate a.test".to_owned(), act }
    }

    #[test]
    fn a_button_works_once_for_its_person_within_its_time() {
        let random = FakeRandom::default();
        let confirms = Confirms::new(&random);
        let value = confirms.offer(pending("U1"), 1000, &random);
        assert!(value.len() <= 100, "Discord takes 100: {value}");
        assert_eq!(confirms.take(&value, "slack", "U2", 2000), Err(Dead::NotYours));
        assert_eq!(confirms.take(&value, "discord", "U1", 2000), Err(Dead::NotYours));
        assert_eq!(confirms.take(&value, "slack", "U1", 1000 + LIFE_MS), Err(Dead::Gone), "too old");
        assert_eq!(confirms.take(&value, "slack", "U1", 2000), Ok(pending("U1")));
        assert_eq!(confirms.take(&value, "slack", "U1", 2000), Err(Dead::Gone), "used");
    }

    #[test]
    fn made_up_buttons_do_nothing() {
        let random = FakeRandom::default();
        let confirms = Confirms::new(&random);
        let value = confirms.offer(pending("U1"), 1000, &random);
        let cut = value.rsplit_once('.').unwrap().0;
        let longer = value.replace(&(1000 + LIFE_MS).to_string(), &(9000 + LIFE_MS).to_string());
        for forged in
            ["", "kc1", "x", &format!("{cut}."), &format!("{cut}.00"), &format!("{value}.x"), &longer]
        {
            assert_eq!(confirms.take(forged, "slack", "U1", 2000), Err(Dead::Forged), "{forged}");
        }
        let other = Confirms::new(&random);
        assert_eq!(other.take(&value, "slack", "U1", 2000), Err(Dead::Gone), "of an earlier process");
        assert!(confirms.take(&value, "slack", "U1", 2000).is_ok(), "none of this used it up");
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let random = FakeRandom::default();
        let confirms = Confirms::new(&random);
        let first = confirms.offer(pending("U1"), 1000, &random);
        (0..MAX_PENDING).for_each(|_| drop(confirms.offer(pending("U1"), 1000, &random)));
        assert_eq!(confirms.take(&first, "slack", "U1", 2000), Err(Dead::Gone));
        assert_eq!(confirms.pending.lock().unwrap().len(), MAX_PENDING);
    }
}
