//! Indented configuration text, and the pages that visitors see when the site is away. Nothing else.

use std::fmt::Write;

/// Lines in nested blocks.
#[derive(Default)]
pub(super) struct Text {
    out: String,
    depth: usize,
}

impl Text {
    /// A line.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        let line = line.as_ref();
        if line.is_empty() {
            self.out.push('\n');
        } else {
            #[expect(clippy::expect_used, reason = "writing to a String cannot fail")]
            writeln!(self.out, "{:indent$}{line}", "", indent = 4 * self.depth)
                .expect("a String takes every write");
        }
    }

    /// Lines between an opening and a closing one.
    pub(super) fn block(&mut self, open: impl AsRef<str>, close: &str, inside: impl FnOnce(&mut Self)) {
        self.line(open);
        self.depth += 1;
        inside(self);
        self.depth -= 1;
        self.line(close);
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.out
    }
}

/// Seconds that a client is asked to wait when a site is in maintenance.
pub(super) const RETRY_AFTER: u32 = 120;

/// How long clients may keep a permanent redirect: else they keep it for ever, also when a rename is undone.
pub(super) const REDIRECT_CACHE: &str = "max-age=3600";

/// The header of redirects between a site's own names, as `name value`: Kedge's own questions follow them.
pub(super) const REDIRECT_BY: &str = "X-Redirect-By Kedge";

/// The page of a site in maintenance. Stands between double quotes in every server's language: no double quote, no `$`, no `%`.
pub(super) const MAINTENANCE_PAGE: &str = "<!doctype html><html lang='en'><head><meta charset='utf-8'>\
<meta name='viewport' content='width=device-width'><title>Back in a few minutes</title></head>\
<body style='font-family:sans-serif;max-width:32em;margin:15vh auto;padding:0 1em;line-height:1.5'>\
<h1>Back in a few minutes</h1><p>This site is being looked after and will return shortly. Please try again in a moment.</p></body></html>";

/// The page of a disabled site.
pub(super) const DISABLED_PAGE: &str = "<!doctype html><html lang='en'><head><meta charset='utf-8'>\
<meta name='viewport' content='width=device-width'><title>Site disabled</title></head>\
<body style='font-family:sans-serif;max-width:32em;margin:15vh auto;padding:0 1em;line-height:1.5'>\
<h1>This site is disabled</h1><p>Its owner or the hosting team has switched it off.</p></body></html>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_fit_between_double_quotes() {
        for page in [MAINTENANCE_PAGE, DISABLED_PAGE] {
            assert!(page.is_ascii() && !page.contains(['"', '$', '%', '\\', '\n']));
        }
    }
}
