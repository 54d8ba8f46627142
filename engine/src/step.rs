//! What a step is: the unit that runs, is undone and is probed. It never knows how it is scheduled.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why an attempt failed, in the class that decides what happens next.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[error("{message}")]
pub struct StepError {
    /// Decides between retry, undo and probe.
    pub class: ErrorClass,
    /// What went wrong, with the name or path concerned; never a secret.
    pub message: String,
}

/// Classes of failed attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// May work later: the retry policy decides.
    Retryable,
    /// Will not work: no retry.
    Fatal,
    /// The effect may be there or not: probe before anything else.
    InDoubt,
}

/// Longest message kept, in bytes: errors go into the journal, whose values are bounded.
const MAX_MESSAGE: usize = 2000;

impl StepError {
    /// An error that may pass.
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Retryable, message)
    }

    /// An error that stays.
    #[must_use]
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Fatal, message)
    }

    /// An error after which the effect may be there or not.
    #[must_use]
    pub fn in_doubt(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::InDoubt, message)
    }

    fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            let mut end = MAX_MESSAGE;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
            message.push('…');
        }
        Self { class, message }
    }
}
