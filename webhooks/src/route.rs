//! Method and path to a route, purely. Handlers never see the text of a path.

use http::Method;
use kedge_engine::task::TaskId;

use crate::chat::Platform;

/// Longest name in a path: a site's has 235 characters at most, a backup's 255.
const MAX_SEGMENT: usize = 255;

/// A thing that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Hook(String),
    Explain(String),
    Chat(Platform),
    Inbox,
    Received(String),
    ReplayReceived(String),
    CreateTask,
    Tasks,
    Task(TaskId),
    Events(TaskId),
    Graph(TaskId),
    Log(TaskId, String),
    Login(TaskId),
    Cancel(TaskId),
    Retry(TaskId),
    Undo(TaskId),
    Resolve(TaskId),
    Approve(TaskId),
    Refuse(TaskId),
    Workflows,
    Workflow(String),
    Records(Family),
    Record(Family, String),
    Archive(String),
    MakePlatform,
    RemovePlatform(String),
    Compare(String, String),
    Locks,
    Endpoints,
    MakeEndpoint,
    Endpoint(String),
    ChangeEndpoint(String),
    RemoveEndpoint(String),
    EndpointVerb(String, EndpointVerb),
    Keys,
    Deliveries,
    Delivery(String),
    Replay(String),
    Tokens,
    MakeToken,
    Token(String),
    RevokeToken(String),
    Audit,
    Live,
    Ready,
    Metrics,
    OpenApi,
}

/// A family of the registry's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Sites,
    Platforms,
    Backups,
    /// What the trash holds, by the task that put it there.
    Trash,
}

/// What can be done with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointVerb {
    Rotate,
    Enable,
    Disable,
    Test,
    Recover,
}

/// What method and path lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    Found(Route),
    /// There is something here, but only for these methods.
    OtherMethod(&'static str),
    /// Somebody asks what there is; the text lists the methods.
    Options(&'static str),
    /// There is nothing here; the text says what may have been meant.
    Nothing(&'static str),
}

impl Route {
    /// Its name in logs and metrics: no part of it comes from the request.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Hook(_) => "hook",
            Self::Explain(_) => "explain",
            Self::Chat(_) => "chat",
            Self::Inbox => "inbox",
            Self::Received(_) => "received",
            Self::ReplayReceived(_) => "replay_received",
            Self::CreateTask => "create_task",
            Self::Tasks => "tasks",
            Self::Task(_) => "task",
            Self::Events(_) => "events",
            Self::Graph(_) => "graph",
            Self::Log(..) => "log",
            Self::Login(_) => "login",
            Self::Cancel(_) => "cancel",
            Self::Retry(_) => "retry",
            Self::Undo(_) => "undo",
            Self::Resolve(_) => "resolve",
            Self::Approve(_) => "approve",
            Self::Refuse(_) => "refuse",
            Self::Workflows => "workflows",
            Self::Workflow(_) => "workflow",
            Self::Records(Family::Sites) => "sites",
            Self::Records(Family::Platforms) => "platforms",
            Self::Records(Family::Backups) => "backups",
            Self::Records(Family::Trash) => "trash",
            Self::Record(Family::Sites, _) => "site",
            Self::Record(Family::Platforms, _) => "platform",
            Self::Record(Family::Backups, _) => "backup",
            Self::Record(Family::Trash, _) => "trashed",
            Self::Archive(_) => "archive",
            Self::MakePlatform => "make_platform",
            Self::RemovePlatform(_) => "remove_platform",
            Self::Compare(..) => "compare",
            Self::Locks => "locks",
            Self::Endpoints => "endpoints",
            Self::MakeEndpoint => "make_endpoint",
            Self::Endpoint(_) => "endpoint",
            Self::ChangeEndpoint(_) => "change_endpoint",
            Self::RemoveEndpoint(_) => "remove_endpoint",
            Self::EndpointVerb(_, EndpointVerb::Rotate) => "rotate_secret",
            Self::EndpointVerb(_, EndpointVerb::Enable) => "enable_endpoint",
            Self::EndpointVerb(_, EndpointVerb::Disable) => "disable_endpoint",
            Self::EndpointVerb(_, EndpointVerb::Test) => "test_endpoint",
            Self::EndpointVerb(_, EndpointVerb::Recover) => "recover_endpoint",
            Self::Keys => "webhook_keys",
            Self::Deliveries => "deliveries",
            Self::Delivery(_) => "delivery",
            Self::Replay(_) => "replay",
            Self::Tokens => "tokens",
            Self::MakeToken => "make_token",
            Self::Token(_) => "token",
            Self::RevokeToken(_) => "revoke_token",
            Self::Audit => "audit",
            Self::Live => "livez",
            Self::Ready => "readyz",
            Self::Metrics => "metrics",
            Self::OpenApi => "openapi",
        }
    }
}

/// Finds the route.
pub(crate) fn route(method: &Method, path: &str) -> Routed {
    if *method != Method::OPTIONS {
        return find(method, path);
    }
    match find(method, path) {
        Routed::OtherMethod(allow) => Routed::Options(allow),
        found => found,
    }
}

fn find(method: &Method, path: &str) -> Routed {
    let Some(path) = path.strip_prefix('/') else { return Routed::Nothing("a path begins with a slash") };
    let segments: Vec<&str> = path.split('/').collect();
    match segments[..] {
        ["v1", ref rest @ ..] if rest.iter().any(|segment| segment.is_empty()) => {
            Routed::Nothing("a name in the path is empty")
        }
        ["v1", ref rest @ ..] if rest.iter().any(|segment| segment.len() > MAX_SEGMENT) => {
            Routed::Nothing("no name is this long")
        }
        ["v1", "tasks", ref rest @ ..] => tasks(method, rest),
        ["v1", "tokens", ref rest @ ..] => tokens(method, rest),
        ["v1", "endpoints", ref rest @ ..] => endpoints(method, rest),
        ["v1", ref rest @ ..] => others(method, rest),
        ["livez"] => get(method, Route::Live),
        ["readyz"] => get(method, Route::Ready),
        ["metrics"] => get(method, Route::Metrics),
        ["openapi.json"] => get(method, Route::OpenApi),
        [".well-known", "webhook-keys"] => get(method, Route::Keys),
        _ => Routed::Nothing(
            "there is nothing at this path; the interface begins at /v1/tasks and /v1/hooks/{hook}, and is described at \
             /openapi.json",
        ),
    }
}

/// The first of these whose method it is; `allow` lists them all.
fn one_of<const N: usize>(method: &Method, allow: &'static str, routes: [(Method, Route); N]) -> Routed {
    let asked = if *method == Method::HEAD { &Method::GET } else { method };
    let found = routes.into_iter().find(|(method, _)| method == asked);
    found.map_or(Routed::OtherMethod(allow), |(_, route)| Routed::Found(route))
}

fn get(method: &Method, route: Route) -> Routed {
    one_of(method, "GET, HEAD", [(Method::GET, route)])
}

fn post(method: &Method, route: Route) -> Routed {
    one_of(method, "POST", [(Method::POST, route)])
}

fn tasks(method: &Method, rest: &[&str]) -> Routed {
    let [id, below @ ..] = rest else {
        let routes = [(Method::GET, Route::Tasks), (Method::POST, Route::CreateTask)];
        return one_of(method, "GET, HEAD, POST", routes);
    };
    let Ok(id) = TaskId::try_from((*id).to_owned()) else {
        return Routed::Nothing("a task's id is task_ and 32 hex digits, as its creation answered");
    };
    match *below {
        [] => get(method, Route::Task(id)),
        ["events"] => get(method, Route::Events(id)),
        ["graph"] => get(method, Route::Graph(id)),
        ["steps", step, "log"] => get(method, Route::Log(id, step.to_owned())),
        ["login"] => get(method, Route::Login(id)),
        ["cancel"] => post(method, Route::Cancel(id)),
        ["retry"] => post(method, Route::Retry(id)),
        ["undo"] => post(method, Route::Undo(id)),
        ["resolve"] => post(method, Route::Resolve(id)),
        ["approve"] => post(method, Route::Approve(id)),
        ["refuse"] => post(method, Route::Refuse(id)),
        _ => Routed::Nothing(
            "a task has events, graph, steps/{step}/log, login, cancel, retry, undo, resolve, approve and refuse",
        ),
    }
}

fn tokens(method: &Method, rest: &[&str]) -> Routed {
    match *rest {
        [] => {
            let routes = [(Method::GET, Route::Tokens), (Method::POST, Route::MakeToken)];
            one_of(method, "GET, HEAD, POST", routes)
        }
        [name] => {
            let name = || name.to_owned();
            let routes = [(Method::GET, Route::Token(name())), (Method::DELETE, Route::RevokeToken(name()))];
            one_of(method, "GET, HEAD, DELETE", routes)
        }
        _ => Routed::Nothing("a token has nothing below it"),
    }
}

fn endpoints(method: &Method, rest: &[&str]) -> Routed {
    match *rest {
        [] => {
            let routes = [(Method::GET, Route::Endpoints), (Method::POST, Route::MakeEndpoint)];
            one_of(method, "GET, HEAD, POST", routes)
        }
        [name] => {
            let name = || name.to_owned();
            let routes = [
                (Method::GET, Route::Endpoint(name())),
                (Method::PATCH, Route::ChangeEndpoint(name())),
                (Method::DELETE, Route::RemoveEndpoint(name())),
            ];
            one_of(method, "GET, HEAD, PATCH, DELETE", routes)
        }
        [name, verb] => {
            let verb = match verb {
                "rotate" => EndpointVerb::Rotate,
                "enable" => EndpointVerb::Enable,
                "disable" => EndpointVerb::Disable,
                "test" => EndpointVerb::Test,
                "recover" => EndpointVerb::Recover,
                _ => return Routed::Nothing("an endpoint has rotate, enable, disable, test and recover"),
            };
            post(method, Route::EndpointVerb(name.to_owned(), verb))
        }
        _ => Routed::Nothing("an endpoint has rotate, enable, disable, test and recover"),
    }
}

fn others(method: &Method, rest: &[&str]) -> Routed {
    match *rest {
        ["hooks", hook] => post(method, Route::Hook(hook.to_owned())),
        ["hooks", hook, "explain"] => post(method, Route::Explain(hook.to_owned())),
        ["chat", word] => match Platform::find(word) {
            Some(platform) => post(method, Route::Chat(platform)),
            None => Routed::Nothing("there are chat/slack, chat/mattermost and chat/discord"),
        },
        ["inbox"] => get(method, Route::Inbox),
        ["inbox", id] => get(method, Route::Received(id.to_owned())),
        ["inbox", id, "replay"] => post(method, Route::ReplayReceived(id.to_owned())),
        ["workflows"] => get(method, Route::Workflows),
        ["workflows", name] => get(method, Route::Workflow(name.to_owned())),
        ["sites"] => get(method, Route::Records(Family::Sites)),
        ["platforms"] => {
            let routes =
                [(Method::GET, Route::Records(Family::Platforms)), (Method::POST, Route::MakePlatform)];
            one_of(method, "GET, HEAD, POST", routes)
        }
        ["sites", name] => get(method, Route::Record(Family::Sites, name.to_owned())),
        ["platforms", name] => {
            let routes = [
                (Method::GET, Route::Record(Family::Platforms, name.to_owned())),
                (Method::DELETE, Route::RemovePlatform(name.to_owned())),
            ];
            one_of(method, "GET, HEAD, DELETE", routes)
        }
        ["platforms", from, "compare", to] => get(method, Route::Compare(from.to_owned(), to.to_owned())),
        ["backups"] => get(method, Route::Records(Family::Backups)),
        ["backups", name] => get(method, Route::Record(Family::Backups, name.to_owned())),
        ["backups", name, "archive"] => get(method, Route::Archive(name.to_owned())),
        ["trash"] => get(method, Route::Records(Family::Trash)),
        ["trash", task] => get(method, Route::Record(Family::Trash, task.to_owned())),
        ["locks"] => get(method, Route::Locks),
        ["deliveries"] => get(method, Route::Deliveries),
        ["deliveries", id] => get(method, Route::Delivery(id.to_owned())),
        ["deliveries", id, "replay"] => post(method, Route::Replay(id.to_owned())),
        ["audit"] => get(method, Route::Audit),
        _ => Routed::Nothing(
            "there are tasks, hooks/{hook}, workflows, sites, platforms, backups, trash, locks, endpoints, deliveries, inbox, chat, tokens and audit",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "task_0193f1c20000700080000000000000aa";

    type Row = (&'static str, &'static str, Route);

    fn id() -> TaskId {
        TaskId::try_from(ID.to_owned()).unwrap()
    }

    fn name() -> String {
        "x".to_owned()
    }

    /// Tasks, and what they are asked for by and about.
    fn work() -> Vec<Row> {
        vec![
            ("POST", "/v1/hooks/x", Route::Hook(name())),
            ("POST", "/v1/hooks/x/explain", Route::Explain(name())),
            ("POST", "/v1/chat/slack", Route::Chat(Platform::Slack)),
            ("GET", "/v1/inbox", Route::Inbox),
            ("GET", "/v1/inbox/x", Route::Received(name())),
            ("POST", "/v1/inbox/x/replay", Route::ReplayReceived(name())),
            ("POST", "/v1/tasks", Route::CreateTask),
            ("GET", "/v1/tasks", Route::Tasks),
            ("GET", "/v1/tasks/ID", Route::Task(id())),
            ("GET", "/v1/tasks/ID/events", Route::Events(id())),
            ("GET", "/v1/tasks/ID/graph", Route::Graph(id())),
            ("GET", "/v1/tasks/ID/steps/x/log", Route::Log(id(), name())),
            ("GET", "/v1/tasks/ID/login", Route::Login(id())),
            ("POST", "/v1/tasks/ID/cancel", Route::Cancel(id())),
            ("POST", "/v1/tasks/ID/retry", Route::Retry(id())),
            ("POST", "/v1/tasks/ID/undo", Route::Undo(id())),
            ("POST", "/v1/tasks/ID/resolve", Route::Resolve(id())),
            ("POST", "/v1/tasks/ID/approve", Route::Approve(id())),
            ("POST", "/v1/tasks/ID/refuse", Route::Refuse(id())),
            ("GET", "/v1/workflows", Route::Workflows),
            ("GET", "/v1/workflows/x", Route::Workflow(name())),
            ("GET", "/v1/sites", Route::Records(Family::Sites)),
            ("GET", "/v1/sites/x", Route::Record(Family::Sites, name())),
            ("GET", "/v1/platforms", Route::Records(Family::Platforms)),
            ("GET", "/v1/platforms/x", Route::Record(Family::Platforms, name())),
            ("POST", "/v1/platforms", Route::MakePlatform),
            ("DELETE", "/v1/platforms/x", Route::RemovePlatform(name())),
            ("GET", "/v1/platforms/x/compare/x", Route::Compare(name(), name())),
            ("GET", "/v1/backups", Route::Records(Family::Backups)),
            ("GET", "/v1/backups/x", Route::Record(Family::Backups, name())),
            ("GET", "/v1/backups/x/archive", Route::Archive(name())),
            ("GET", "/v1/trash", Route::Records(Family::Trash)),
            ("GET", "/v1/trash/x", Route::Record(Family::Trash, name())),
            ("GET", "/v1/locks", Route::Locks),
        ]
    }

    /// Callbacks, access, and the process itself.
    fn around() -> Vec<Row> {
        vec![
            ("GET", "/v1/endpoints", Route::Endpoints),
            ("POST", "/v1/endpoints", Route::MakeEndpoint),
            ("GET", "/v1/endpoints/x", Route::Endpoint(name())),
            ("PATCH", "/v1/endpoints/x", Route::ChangeEndpoint(name())),
            ("DELETE", "/v1/endpoints/x", Route::RemoveEndpoint(name())),
            ("POST", "/v1/endpoints/x/rotate", Route::EndpointVerb(name(), EndpointVerb::Rotate)),
            ("POST", "/v1/endpoints/x/enable", Route::EndpointVerb(name(), EndpointVerb::Enable)),
            ("POST", "/v1/endpoints/x/disable", Route::EndpointVerb(name(), EndpointVerb::Disable)),
            ("POST", "/v1/endpoints/x/test", Route::EndpointVerb(name(), EndpointVerb::Test)),
            ("POST", "/v1/endpoints/x/recover", Route::EndpointVerb(name(), EndpointVerb::Recover)),
            ("GET", "/.well-known/webhook-keys", Route::Keys),
            ("GET", "/v1/deliveries", Route::Deliveries),
            ("GET", "/v1/deliveries/x", Route::Delivery(name())),
            ("POST", "/v1/deliveries/x/replay", Route::Replay(name())),
            ("GET", "/v1/tokens", Route::Tokens),
            ("POST", "/v1/tokens", Route::MakeToken),
            ("GET", "/v1/tokens/x", Route::Token(name())),
            ("DELETE", "/v1/tokens/x", Route::RevokeToken(name())),
            ("GET", "/v1/audit", Route::Audit),
            ("GET", "/livez", Route::Live),
            ("GET", "/readyz", Route::Ready),
            ("GET", "/metrics", Route::Metrics),
            ("GET", "/openapi.json", Route::OpenApi),
        ]
    }

    #[test]
    fn every_route_is_found_by_its_method_and_refused_by_others() {
        let table = [work(), around()].concat();
        let names: std::collections::BTreeSet<&str> =
            table.iter().map(|(_, _, found)| found.name()).collect();
        assert_eq!(names.len(), table.len(), "names are unique");
        for (method, path, want) in table {
            let path = path.replace("ID", ID);
            let method: Method = method.parse().unwrap();
            assert_eq!(route(&method, &path), Routed::Found(want.clone()), "{method} {path}");
            if method == Method::GET {
                assert_eq!(route(&Method::HEAD, &path), Routed::Found(want), "HEAD {path}");
            }
            assert!(matches!(route(&Method::TRACE, &path), Routed::OtherMethod(_)), "TRACE {path}");
            let Routed::Options(allow) = route(&Method::OPTIONS, &path) else { panic!("OPTIONS {path}") };
            assert!(
                allow.split(", ").any(|allowed| allowed == method.as_str()),
                "{allow} for {method} {path}"
            );
        }
    }

    #[test]
    fn other_methods_are_named() {
        assert_eq!(route(&Method::PUT, "/v1/tasks"), Routed::OtherMethod("GET, HEAD, POST"));
        assert_eq!(
            route(&Method::GET, "/v1/hooks/x"),
            Routed::OtherMethod("POST"),
            "link previews start nothing"
        );
    }

    #[test]
    fn nothing_else_is_there() {
        let long = format!("/v1/hooks/{}", "x".repeat(256));
        for path in [
            "",
            "/",
            "//",
            "/v1",
            "/v1/",
            "/v1/tasks/",
            "/v1/tasks/x",
            "/v2/tasks",
            "/v1/tasks/../sites",
            "/v1//tasks",
            "/v1/hooks",
            "/v1/hooks/a/b",
            "/v1/chat/irc",
            "/livez/x",
            "/v1/hooks/",
            "v1/hooks/x",
            "livez",
            "/V1/tasks",
            "/v1/tasks/task_0193F1C20000700080000000000000AA",
            "*",
            &long,
        ] {
            assert!(matches!(route(&Method::GET, path), Routed::Nothing(_)), "{path}");
            assert!(matches!(route(&Method::POST, path), Routed::Nothing(_)), "{path}");
            assert!(matches!(route(&Method::OPTIONS, path), Routed::Nothing(_)), "{path}");
        }
    }
}
