//! What an operation is: method, path, who may, what goes in and what comes out. Names none.

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    Token,
    Signature,
    Nobody,
}

/// A form of an answer: content type and schema.
pub(super) struct Part(pub(super) &'static str, pub(super) &'static str);

/// Status, words, forms, headers.
pub(super) type AnswerOf = (u16, &'static str, &'static [Part], &'static [&'static str]);

/// Something that can be asked for.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// The route's name.
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) auth: Auth,
    /// Names of shared parameters.
    pub(super) parameters: &'static [&'static str],
    /// Whether it has to be there, its content type and its schema.
    pub(super) body: Option<(bool, &'static str, &'static str)>,
    pub(super) answers: &'static [AnswerOf],
    /// Refusals of its own, beside those of its kind.
    pub(super) refusals: &'static [u16],
}

pub(super) const JSON: &str = "application/json";

impl Operation {
    pub(super) const fn get(
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        let (auth, parameters, body) = (Auth::Token, &[], None);
        Self { method: "GET", path, id, tag, summary, auth, parameters, body, answers: &[], refusals: &[] }
    }

    pub(super) const fn other(
        method: &'static str,
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        let (auth, parameters, body) = (Auth::Token, &[], None);
        Self { method, path, id, tag, summary, auth, parameters, body, answers: &[], refusals: &[] }
    }

    pub(super) const fn post(
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::other("POST", path, id, tag, summary)
    }

    pub(super) const fn by(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    pub(super) const fn with(self, parameters: &'static [&'static str]) -> Self {
        Self { parameters, ..self }
    }

    pub(super) const fn taking(self, schema: &'static str) -> Self {
        Self { body: Some((true, JSON, schema)), ..self }
    }

    pub(super) const fn maybe_taking(self, schema: &'static str) -> Self {
        Self { body: Some((false, JSON, schema)), ..self }
    }

    pub(super) const fn gives(self, answers: &'static [AnswerOf]) -> Self {
        Self { answers, ..self }
    }

    pub(super) const fn refuses(self, refusals: &'static [u16]) -> Self {
        Self { refusals, ..self }
    }

    /// Every status with a problem document.
    pub(super) fn problems(&self) -> Vec<u16> {
        let mut all = vec![431, 500];
        if self.auth == Auth::Token {
            all.extend([400, 401, 403, 422, 429]);
        }
        if self.path.contains('{') && self.auth == Auth::Token {
            all.push(404);
        }
        if self.body.is_some() {
            all.extend([400, 408, 413, 415, 422, 503]);
        }
        all.extend(self.refusals);
        all.sort_unstable();
        all.dedup();
        all
    }
}
