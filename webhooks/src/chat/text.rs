//! Texts for chats: what somebody sent is shown, and mentions nobody. Pure.

/// A text as Slack and Mattermost show it: the three signs that Slack reads as markup are escaped, and an `@` wakes nobody.
pub(crate) fn slack_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            // Mattermost reads @channel and @all in plain text; with an invisible space after the sign it does not.
            '@' => safe.push_str("@\u{200b}"),
            '\n' => safe.push('\n'),
            c if c.is_control() => {}
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_mentioned_and_nothing_becomes_markup() {
        assert_eq!(slack_text("<!channel> & <@U1>\u{7}"), "&lt;!channel&gt; &amp; &lt;@\u{200b}U1&gt;");
        assert_eq!(slack_text("@all\nb"), "@\u{200b}all\nb");
    }
}
