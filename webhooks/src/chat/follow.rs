//! Tells a chat how a task goes: a few words while it runs, one at its end, within what the platform allows. What it cannot say in the
//! conversation it says in the channel, if one is configured.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use kedge_engine::ports::Clock;
use kedge_engine::service::{TaskFilter, Tasks};
use kedge_engine::store::ReadError;
use kedge_engine::task::{TaskId, TaskState, TaskView};
use reqwest::Client;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::confirm::Confirms;
use super::incoming::Reply;
use super::message::{self, Voice};
use super::{Budget, Chat};
use crate::api::is_settled;
use crate::app::Inner;

/// Most tasks that are told about at once; more run, untold.
const MAX_FOLLOWED: usize = 256;
/// How long a platform may take to take a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all chats share.
pub(crate) struct Desk {
    pub(crate) confirms: Confirms,
    followed: Arc<Semaphore>,
    client: Client,
}

impl Desk {
    pub(crate) fn new(random: &dyn kedge_engine::ports::Random) -> Self {
        let client = Client::builder()
            .user_agent(concat!("kedge/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .timeout(PATIENCE)
            .build()
            // Only a TLS backend that does not start can be the reason; then nothing is said later.
            .unwrap_or_default();
        Self { confirms: Confirms::new(random), followed: Arc::new(Semaphore::new(MAX_FOLLOWED)), client }
    }

    /// Says one thing where a message wants its answer.
    pub(crate) fn say(&self, chat: &Chat, reply: &Reply, body: Value) {
        let Some(address) = address(chat, reply) else { return };
        let client = self.client.clone();
        tokio::spawn(async move {
            post(&client, address, &body).await;
        });
    }

    /// Tells about a task from now on.
    pub(crate) fn follow(&self, told: Told) {
        let Ok(place) = Arc::clone(&self.followed).try_acquire_owned() else {
            tracing::warn!(target: "kedge::chat", "too many tasks are told about; this one is not");
            return;
        };
        let client = self.client.clone();
        tokio::spawn(async move {
            told.run(&client).await;
            drop(place);
        });
    }
}

/// Tells the ends of tasks that somebody in a chat asked for in an earlier life. The address of the conversation was a secret and is
/// gone with it; the channel is told, where one is configured.
pub(crate) fn resume(app: &Inner, chats: &[Chat]) -> Result<(), ReadError> {
    let chats: Vec<&Chat> = chats.iter().filter(|chat| chat.webhook.is_some()).collect();
    if chats.is_empty() {
        return Ok(());
    }
    for state in TaskState::ALL.into_iter().filter(|state| !is_settled(*state)) {
        let filter = TaskFilter { state: Some(state), limit: MAX_FOLLOWED, ..TaskFilter::default() };
        for task in app.ports.tasks.tasks(&filter)?.tasks {
            let asked = chats.iter().find_map(|chat| Some((*chat, chat.asked_by(&task.actor)?)));
            let Some((chat, mention)) = asked else { continue };
            app.desk.follow(Told {
                tasks: Arc::clone(&app.ports.tasks),
                clock: Arc::clone(&app.ports.clock),
                draining: app.draining.clone(),
                chat: chat.clone(),
                reply: Reply::Nowhere,
                mention,
                task: task.id,
                budget: Budget::new(chat.platform, app.ports.clock.now()),
            });
        }
    }
    Ok(())
}

/// A task that somebody waits for.
pub(crate) struct Told {
    pub(crate) tasks: Arc<dyn Tasks>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) draining: CancellationToken,
    pub(crate) chat: Chat,
    pub(crate) reply: Reply,
    pub(crate) mention: String,
    pub(crate) task: TaskId,
    pub(crate) budget: Budget,
}

impl Told {
    async fn run(mut self, client: &Client) {
        let mut said = String::new();
        loop {
            let Ok(Some(view)) = self.tasks.task(&self.task) else { return };
            if is_settled(view.state) {
                return self.end(client, &view).await;
            }
            let text = message::task(&view);
            let now = self.clock.now();
            if text != said && self.budget.for_progress(now) {
                self.budget.spend(now);
                self.tell(client, &text, None).await;
                said = text;
            }
            tokio::select! {
                () = self.tasks.changed(&self.task, view.sequence, u64::MAX) => {}
                () = self.draining.cancelled() => return,
            }
        }
    }

    /// The end is told in the conversation if that still takes it, else in the channel.
    async fn end(&mut self, client: &Client, view: &TaskView) {
        let text = message::end(view);
        let mention = Some(self.mention.as_str()).filter(|mention| !mention.is_empty());
        let now = self.clock.now();
        if self.budget.for_end(now) && self.tell(client, &text, mention).await {
            return;
        }
        let channel = self.chat.webhook.as_ref().and_then(|url| Url::parse(url.expose()).ok());
        let told = match channel {
            Some(url) => post(client, (Method::POST, url), &self.voice().channel(&text, &self.mention)).await,
            None => false,
        };
        if !told {
            tracing::warn!(target: "kedge::chat", task = %view.id, "the end of a task could not be told in its chat");
        }
    }

    async fn tell(&self, client: &Client, text: &str, mention: Option<&str>) -> bool {
        match address(&self.chat, &self.reply) {
            Some(address) => post(client, address, &self.voice().later(text, mention)).await,
            None => false,
        }
    }

    fn voice(&self) -> Voice<'static> {
        Voice { platform: self.chat.platform, own_url: None }
    }
}

fn address(chat: &Chat, reply: &Reply) -> Option<(Method, Url)> {
    match reply {
        Reply::Url(url) => {
            let pinned = chat.pinned(url);
            if pinned.is_none() {
                tracing::warn!(target: "kedge::chat", chat = chat.name, "a message wants its answer on another host");
            }
            pinned.map(|url| (Method::POST, url))
        }
        Reply::Discord { application, token } => {
            let path = format!("/api/v10/webhooks/{application}/{token}/messages/@original");
            chat.base.join(&path).ok().map(|url| (Method::PATCH, url))
        }
        Reply::Nowhere => None,
    }
}

/// Whether it was taken. Neither the address nor the answer is logged: the one is a secret, the other a stranger's.
async fn post(client: &Client, (method, url): (Method, Url), body: &Value) -> bool {
    match client.request(method, url).json(body).send().await {
        Ok(response) if response.status().is_success() => true,
        Ok(response) => {
            tracing::warn!(target: "kedge::chat", status = response.status().as_u16(), "a chat did not take a message");
            false
        }
        Err(error) => {
            tracing::warn!(target: "kedge::chat", error = %error.without_url(), "a chat could not be reached");
            false
        }
    }
}
