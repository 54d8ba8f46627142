//! `POST /v1/chat/{slack,mattermost,discord}`: a command becomes an answer at once, and what it starts is durable before that. What changes a
//! site shows its plan and a button first. Whoever has no key learns nothing; whoever is not listed gets no further than that.

use std::sync::Arc;

use bytes::Bytes;
use http::{StatusCode, header};
use hyper::body::Body as HttpBody;
use kedge_engine::service::{DedupeKey, Submission, Submitted, TaskFilter, VerbError};
use kedge_engine::task::{Actor, TaskId, TaskView};
use serde_json::{Value, json};

use crate::app::Answer;
use crate::auth::{Token, Verb};
use crate::chat::approve;
use crate::chat::confirm::{Act, Pending};
use crate::chat::follow::Told;
use crate::chat::incoming::{self, Incoming, What};
use crate::chat::message::{self, Voice};
use crate::chat::words::{self, Command};
use crate::chat::{Budget, Chat, Platform};
use crate::cx::Cx;
use crate::handlers::{self, hooks, submit, to_its_end, unreadable};
use crate::problem::{Fault, Problem};

/// Largest message: commands and buttons have a few kilobytes.
const MAX_BODY: usize = 64 * 1024;
/// Tasks listed by `status`.
const LISTED: usize = 8;
/// What a press on a button gets that we did not make, or not as we make them now.
const NOT_MINE: &str = "This button is not one of mine, or too old. The command approve or refuse with the task's id does the same.";
/// Shortest end of a task's id that names it.
const MIN_ID: usize = 4;

pub(crate) async fn receive<B: HttpBody<Data = Bytes> + Unpin>(
    cx: &Cx<'_>,
    platform: Platform,
    body: B,
) -> Answer {
    let body = cx.body_within(body, MAX_BODY).await?;
    let headers = &cx.parts.headers;
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let now_s = cx.app.ports.clock.now() / 1000;
    let chats = || cx.access.chats.iter().filter(|chat| chat.platform == platform);
    let mut known = None;
    for chat in chats() {
        if chat.verify(headers, &body, now_s).is_ok() {
            known = Some(chat);
        }
    }
    let payload = platform.provider().payload(content_type, &body);
    let Some(chat) = known else {
        // Mattermost signs no buttons: only a value that we made ourselves says anything.
        return match payload {
            Some(Ok(payload))
                if platform == Platform::Mattermost && payload.value.get("context").is_some() =>
            {
                unsigned_button(cx, chats(), &payload.value).await
            }
            _ => Err(hooks::not_verified()),
        };
    };
    let payload = payload.ok_or_else(|| Problem::media_type("this is not what the platform sends"))?;
    let payload = payload.map_err(|error| Problem::json(&error))?.value;
    if let Some(greeting) = platform.provider().greeting(&payload) {
        return Ok(handlers::json(StatusCode::OK, &greeting));
    }
    let incoming = incoming::read(platform, &payload);
    let incoming = incoming.map_err(|what| Problem::bad_request(format!("the message is {what}")))?;
    let desk = Talk { cx, chat, incoming: &incoming };
    Ok(handlers::json(StatusCode::OK, &desk.answer().await))
}

async fn unsigned_button(cx: &Cx<'_>, chats: impl Iterator<Item = &Chat>, payload: &Value) -> Answer {
    let incoming = incoming::read(Platform::Mattermost, payload).map_err(|_| hooks::not_verified())?;
    let mut answer = None;
    for chat in chats {
        let talk = Talk { cx, chat, incoming: &incoming };
        match &incoming.what {
            What::Dismissed => return Ok(handlers::json(StatusCode::OK, &talk.dismissed())),
            What::Pressed(value)
                if cx
                    .app
                    .endpoints
                    .marks()
                    .and_then(|marks| marks.read(Platform::Mattermost, value))
                    .is_some() =>
            {
                if chat.user(&incoming.user).is_some() || answer.is_none() {
                    answer = Some(talk.approval(value).await);
                }
            }
            // Not in the question's place: whoever pressed has proven nothing.
            What::Pressed(value) if value.starts_with(approve::BEGIN) => {
                answer.get_or_insert_with(|| talk.voice().aside(NOT_MINE));
            }
            What::Pressed(value) => {
                let taken =
                    cx.app.desk.confirms.take(value, &chat.name, &incoming.user, cx.app.ports.clock.now());
                match taken {
                    Ok(pending) => {
                        return Ok(handlers::json(StatusCode::OK, &talk.confirmed(pending, value).await));
                    }
                    Err(dead) => answer = Some(talk.voice().instead(&dead.to_string())),
                }
            }
            What::Said(_) => {}
        }
    }
    answer.map(|answer| handlers::json(StatusCode::OK, &answer)).ok_or_else(hooks::not_verified)
}

/// One message of one person.
struct Talk<'a> {
    cx: &'a Cx<'a>,
    chat: &'a Chat,
    incoming: &'a Incoming,
}

impl Talk<'_> {
    fn voice(&self) -> Voice<'_> {
        Voice { platform: self.chat.platform, own_url: self.cx.app.chat_url.as_deref() }
    }

    async fn answer(&self) -> Value {
        match &self.incoming.what {
            What::Dismissed => self.pressed_answer(self.dismissed()),
            What::Pressed(value) if value.starts_with(approve::BEGIN) => {
                let answer = self.approval(value).await;
                self.pressed_answer(answer)
            }
            What::Pressed(value) => {
                let now = self.cx.app.ports.clock.now();
                let taken = self.cx.app.desk.confirms.take(value, &self.chat.name, &self.incoming.user, now);
                let answer = match taken {
                    Ok(pending) => self.confirmed(pending, value).await,
                    Err(dead) => self.voice().instead(&dead.to_string()),
                };
                self.pressed_answer(answer)
            }
            What::Said(text) => match self.said(text).await {
                Ok(answer) => answer,
                Err(why) => self.voice().answer(&why),
            },
        }
    }

    /// What a button of a question for approval does: the question's place is taken by the answer that counted.
    async fn approval(&self, value: &str) -> Value {
        let named = self.cx.app.endpoints.marks();
        let named = named.and_then(|marks| marks.read(self.chat.platform, value));
        let Some((task, approve)) = named else {
            return self.voice().aside(NOT_MINE);
        };
        let decided = match self.grant() {
            Ok(grant) => {
                self.decide(grant, task.as_str(), approve, String::new()).await.map(|view| (grant, view))
            }
            Err(why) => Err(why),
        };
        match decided {
            Ok((grant, view)) => {
                let word = if approve { "approved" } else { "refused" };
                self.voice().instead(&format!("{}\n{word} by {}", message::task(&view), grant.name()))
            }
            Err(why) => self.voice().aside(&why),
        }
    }

    async fn decide(
        &self,
        grant: &Token,
        task: &str,
        approve: bool,
        reason: String,
    ) -> Result<TaskView, String> {
        let view = self.find(grant, task)?;
        may(grant, Verb::Approve, &view.workflow)?;
        self.cx.did(if approve { "approve" } else { "refuse" }, Some(&view.id));
        let (id, actor) = (view.id, self.actor(grant));
        let tasks = &self.cx.app.ports.tasks;
        let done = to_its_end(tasks, |tasks| async move { tasks.decide(&id, approve, reason, actor).await });
        verb(self.cx, done.await)
    }

    fn dismissed(&self) -> Value {
        self.voice().instead("Left as it is.")
    }

    /// Slack shows no answer to a press: what takes the question's place is posted.
    fn pressed_answer(&self, answer: Value) -> Value {
        if self.chat.platform != Platform::Slack {
            return answer;
        }
        self.cx.app.desk.say(self.chat, &self.incoming.reply, answer);
        json!({})
    }

    fn grant(&self) -> Result<&Token, String> {
        let grant = self.chat.user(&self.incoming.user).ok_or_else(|| {
            let id = &self.incoming.user;
            format!(
                "You are not listed. Your id here is {id}; whoever runs Kedge can add it to [[chat.users]]."
            )
        })?;
        self.cx.person(&self.chat.name, grant.name()).map_err(|problem| problem.in_words())?;
        Ok(grant)
    }

    async fn said(&self, text: &str) -> Result<Value, String> {
        let grant = self.grant()?;
        let app = self.cx.app;
        let answer = |text: &str| Ok(self.voice().answer(text));
        match words::command(text, |name| app.schemas.knows(name))? {
            Command::Help => answer(&message::help(&app.schemas.names())),
            Command::Status(of) => answer(&self.status(grant, of.as_deref())?),
            Command::Why(task) => {
                let view = self.find(grant, &task)?;
                answer(&format!("{}\n{}", message::task(&view), message::why(&view)))
            }
            Command::Undo(task) => {
                let view = self.find_for(grant, &task, |view| view.undo_until.is_some())?;
                may(grant, Verb::Undo, &view.workflow)?;
                if view.undo_until.is_none() {
                    return Err(format!("{}\nIt cannot be taken back any more.", message::task(&view)));
                }
                let question = format!("{}\nTake it back?", message::task(&view));
                Ok(self.ask(&question, text, Act::Undo(view.id)))
            }
            Command::Cancel { task, reason } => {
                let view = self.find(grant, &task)?;
                may(grant, Verb::Cancel, &view.workflow)?;
                self.cx.did("cancel", Some(&view.id));
                let (id, actor) = (view.id, self.actor(grant));
                let tasks = &app.ports.tasks;
                let done = to_its_end(tasks, |tasks| async move { tasks.cancel(&id, actor, reason).await });
                answer(&message::task(&verb(self.cx, done.await)?))
            }
            Command::Decide { task, approve, reason } => {
                answer(&message::task(&self.decide(grant, &task, approve, reason).await?))
            }
            Command::Run { workflow, params } => self.run(grant, text, workflow, params).await,
        }
    }

    async fn run(&self, grant: &Token, said: &str, workflow: String, params: Value) -> Result<Value, String> {
        let app = self.cx.app;
        self.check(grant, &workflow, &params)?;
        if self.chat.at_once(&workflow) {
            let key = self.incoming.id.clone();
            let submission = self.submission(grant, workflow, params, None, key);
            let view = self.submit(submission).await?;
            let budget = Budget::new(self.chat.platform, app.ports.clock.now());
            let text = format!("{}\n{}", message::task(&view), message::remaining(&budget));
            self.follow(view.id, budget);
            return Ok(self.voice().answer(&text));
        }
        let plan = app.ports.tasks.preview(&workflow, &params);
        let plan = plan.map_err(|error| submit::refusal(app, error, |fault| fault).in_words())?;
        let question = message::plan(&plan);
        Ok(self.ask(&question, said, Act::Run { workflow, params, plan_hash: plan.plan_hash }))
    }

    fn check(&self, grant: &Token, workflow: &str, params: &Value) -> Result<(), String> {
        may(grant, Verb::Create, workflow)?;
        let wrong = |faults: Vec<Fault>| submit::bad_params(faults).in_words();
        self.cx.app.schemas.check(workflow, params).map_err(wrong)?;
        let sites = grant.sites();
        submit::check_sites(self.cx.app, sites, workflow, params).map_err(|problem| problem.in_words())
    }

    fn ask(&self, question: &str, said: &str, act: Act) -> Value {
        let app = self.cx.app;
        let pending = Pending {
            chat: self.chat.name.clone(),
            user: self.incoming.user.clone(),
            said: said.chars().take(200).collect(),
            act,
        };
        let value = app.desk.confirms.offer(pending, app.ports.clock.now(), &*app.ports.random);
        self.voice().question(question, &value)
    }

    /// What a pressed button does; the person may have been taken off the list meanwhile.
    async fn confirmed(&self, pending: Pending, value: &str) -> Value {
        match self.act(pending, value).await {
            Ok(view) => {
                let mut budget = Budget::new(self.chat.platform, self.cx.app.ports.clock.now());
                // The answer to the press is a post too, at Slack.
                budget.spend(self.cx.app.ports.clock.now());
                let text = format!("{}\n{}", message::task(&view), message::remaining(&budget));
                self.follow(view.id, budget);
                self.voice().instead(&text)
            }
            Err(why) => self.voice().instead(&why),
        }
    }

    async fn act(&self, pending: Pending, value: &str) -> Result<TaskView, String> {
        let grant = self.grant()?;
        match pending.act {
            Act::Run { workflow, params, plan_hash } => {
                self.check(grant, &workflow, &params)?;
                let key = Some(value.to_owned());
                self.submit(self.submission(grant, workflow, params, Some(plan_hash), key)).await
            }
            Act::Undo(task) => {
                let view = self.find(grant, task.as_str())?;
                may(grant, Verb::Undo, &view.workflow)?;
                self.cx.did("undo", Some(&task));
                let actor = self.actor(grant);
                let tasks = &self.cx.app.ports.tasks;
                verb(self.cx, to_its_end(tasks, |tasks| async move { tasks.undo(&task, actor).await }).await)
            }
        }
    }

    fn submission(
        &self,
        grant: &Token,
        workflow: String,
        params: Value,
        if_plan: Option<String>,
        key: Option<String>,
    ) -> Submission {
        let scope = format!("chat:{}", self.chat.name);
        Submission {
            workflow,
            params,
            actor: self.actor(grant),
            correlation_id: None,
            callback: None,
            not_before: None,
            priority: 0,
            trace: self.cx.trace(),
            dedupe: key.map(|key| DedupeKey { scope, key, fingerprint: None }).into_iter().collect(),
            if_plan,
        }
    }

    async fn submit(&self, submission: Submission) -> Result<TaskView, String> {
        let app = self.cx.app;
        let done = submit::submit(app, submission).await.map_err(|problem| problem.in_words())?;
        match done {
            Ok(Submitted::Created(view) | Submitted::Duplicate(view)) => {
                self.cx.did("create_task", Some(&view.id));
                Ok(view)
            }
            Err(error) => Err(submit::refusal(app, error, |fault| fault).in_words()),
        }
    }

    fn actor(&self, grant: &Token) -> Actor {
        self.chat.actor(grant)
    }

    fn follow(&self, task: TaskId, budget: Budget) {
        let app = self.cx.app;
        app.desk.follow(Told {
            tasks: Arc::clone(&app.ports.tasks),
            clock: Arc::clone(&app.ports.clock),
            draining: app.draining.clone(),
            chat: self.chat.clone(),
            reply: self.incoming.reply.clone(),
            mention: self.incoming.mention.clone(),
            task,
            budget,
        });
    }

    fn status(&self, grant: &Token, of: Option<&str>) -> Result<String, String> {
        if let Some(of) = of.filter(|of| !of.contains('.')) {
            return self.find(grant, of).map(|view| message::end(&view));
        }
        let filter = TaskFilter { site: of.map(str::to_owned), limit: 200, ..TaskFilter::default() };
        let page = self.cx.app.ports.tasks.tasks(&filter).map_err(|error| unreadable(&error).in_words())?;
        let seen = page.tasks.iter().filter(|view| grant.sees(view));
        let lines: Vec<String> = seen.take(LISTED).map(message::task).collect();
        if lines.is_empty() { Ok("No tasks.".to_owned()) } else { Ok(lines.join("\n")) }
    }

    /// A task by its id, the end of it, or its site: then the newest one.
    fn find(&self, grant: &Token, text: &str) -> Result<TaskView, String> {
        self.find_for(grant, text, |_| true)
    }

    /// The same; of a site's tasks the newest one that fits, if one does.
    fn find_for(
        &self,
        grant: &Token,
        text: &str,
        fitting: impl Fn(&TaskView) -> bool,
    ) -> Result<TaskView, String> {
        let tasks = &self.cx.app.ports.tasks;
        let sees = |view: &TaskView| grant.sees(view);
        if let Ok(id) = TaskId::try_from(text.to_owned()) {
            let view = tasks.task(&id).map_err(|error| unreadable(&error).in_words())?;
            return view.filter(sees).ok_or_else(|| "There is no such task.".to_owned());
        }
        let site = text.contains('.').then(|| text.to_owned());
        if site.is_none() && text.len() < MIN_ID {
            return Err(format!(
                "Name a task by at least {MIN_ID} characters of the end of its id, or by its site."
            ));
        }
        let filter = TaskFilter { site: site.clone(), limit: 200, ..TaskFilter::default() };
        let page = tasks.tasks(&filter).map_err(|error| unreadable(&error).in_words())?;
        let mut found: Vec<TaskView> = page
            .tasks
            .into_iter()
            .filter(|view| sees(view) && (site.is_some() || view.id.as_str().ends_with(text)))
            .collect();
        if site.is_some() && found.iter().any(&fitting) {
            found.retain(fitting);
        }
        let mut fits = found.into_iter();
        match (fits.next(), fits.next()) {
            (Some(view), None) => Ok(view),
            (Some(newest), Some(_)) if site.is_some() => Ok(newest),
            (Some(_), Some(_)) => Err("More than one task ends so; write more of its id.".to_owned()),
            (None, _) => Err("None of the last tasks is called so; `status` lists them.".to_owned()),
        }
    }
}

fn may(grant: &Token, verb: Verb, workflow: &str) -> Result<(), String> {
    if grant.may(verb, workflow) {
        return Ok(());
    }
    Err(format!("You may not {} {workflow} here.", verb.as_str()))
}

fn verb(cx: &Cx<'_>, done: Result<Result<TaskView, VerbError>, Problem>) -> Result<TaskView, String> {
    match done.map_err(|problem| problem.in_words())? {
        Ok(view) => Ok(view),
        Err(VerbError::UnknownTask) => Err("There is no such task.".to_owned()),
        Err(VerbError::Conflict(why)) => Err(why),
        Err(VerbError::Submit(error)) => Err(submit::refusal(cx.app, error, |fault| fault).in_words()),
        Err(VerbError::Store(error)) => {
            tracing::error!(target: "kedge::chat", error, "a decision could not be stored");
            Err("It could not be stored; nothing was changed.".to_owned())
        }
    }
}
