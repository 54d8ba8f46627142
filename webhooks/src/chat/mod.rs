//! People in chat rooms: what they are shown. It runs nothing.

mod text;

pub(crate) use text::slack_text;
