//! The buttons of a question for approval: each names a task and an answer, under a mark that only we can make. They need no memory: whether
//! an answer still counts, the task says. Who may give it, the person's scopes and the task's gate say.

use hmac::{Hmac, KeyInit, Mac};
use kedge_engine::task::TaskId;
use sha2::Sha256;

/// Bytes of a mark.
const MARK: usize = 16;

/// Makes and knows marks.
#[derive(Clone)]
pub(crate) struct Marks([u8; 32]);

impl Marks {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    fn mac(&self, task: &TaskId, approve: bool) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(task.as_str().as_bytes());
        mac.update(&[u8::from(approve)]);
        mac
    }

    /// The value of a button.
    pub(crate) fn value(&self, task: &TaskId, approve: bool) -> String {
        let mark = hex::encode(&self.mac(task, approve).finalize().into_bytes()[..MARK]);
        format!("ka1.{}.{task}.{mark}", if approve { "y" } else { "n" })
    }

    /// What a value stands for, if it is ours.
    pub(crate) fn read(&self, value: &str) -> Option<(TaskId, bool)> {
        let mut parts = value.split('.');
        let (Some("ka1"), Some(answer), Some(task), Some(mark), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let approve = match answer {
            "y" => true,
            "n" => false,
            _ => return None,
        };
        let task = TaskId::try_from(task.to_owned()).ok()?;
        let mark = hex::decode(mark).ok().filter(|mark| mark.len() == MARK)?;
        self.mac(&task, approve).verify_truncated_left(&mark).ok()?;
        Some((task, approve))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::task_id;

    #[test]
    fn a_button_says_one_thing_of_one_task() {
        let marks = Marks::new([7; 32]);
        let (yes, no) = (marks.value(&task_id(1), true), marks.value(&task_id(1), false));
        assert_eq!(marks.read(&yes), Some((task_id(1), true)));
        assert_eq!(marks.read(&no), Some((task_id(1), false)));
        let other = yes.replace(task_id(1).as_str(), task_id(2).as_str());
        for forged in
            ["", "ka1", &yes.replace(".y.", ".n."), &other, &yes[..yes.len() - 2], &format!("{yes}.x")]
        {
            assert_eq!(marks.read(forged), None, "{forged}");
        }
        assert_eq!(Marks::new([8; 32]).read(&yes), None);
    }
}
