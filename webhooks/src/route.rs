//! Method and path to a route, purely. Handlers never see the text of a path.

use http::Method;
use kedge_engine::task::TaskId;

/// Longest name in a path: workflows, hooks and steps have at most 64 characters, callbacks' ids fewer.
const MAX_SEGMENT: usize = 80;

/// A thing that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Hook(String),
    CreateTask,
    Tasks,
    Task(TaskId),
    Events(TaskId),
    Graph(TaskId),
    Log(TaskId, String),
    Cancel(TaskId),
    Retry(TaskId),
    Undo(TaskId),
    Resolve(TaskId),
    Workflows,
    Workflow(String),
    Records(Family),
    Locks,
    Endpoints,
    Deliveries,
    Delivery(String),
    Replay(String),
    Live,
    Ready,
    Metrics,
}

/// A family of the registry's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Sites,
    Platforms,
    Backups,
}

/// What method and path lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    Found(Route),
    /// There is something here, but only for these methods.
    OtherMethod(&'static str),
    /// There is nothing here; the text says what may have been meant.
    Nothing(&'static str),
}

impl Route {
    /// Its name in logs and metrics: no part of it comes from the request.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Hook(_) => "hook",
            Self::CreateTask => "create_task",
            Self::Tasks => "tasks",
            Self::Task(_) => "task",
            Self::Events(_) => "events",
            Self::Graph(_) => "graph",
            Self::Log(..) => "log",
            Self::Cancel(_) => "cancel",
            Self::Retry(_) => "retry",
            Self::Undo(_) => "undo",
            Self::Resolve(_) => "resolve",
            Self::Workflows => "workflows",
            Self::Workflow(_) => "workflow",
            Self::Records(Family::Sites) => "sites",
            Self::Records(Family::Platforms) => "platforms",
            Self::Records(Family::Backups) => "backups",
            Self::Locks => "locks",
            Self::Endpoints => "endpoints",
            Self::Deliveries => "deliveries",
            Self::Delivery(_) => "delivery",
            Self::Replay(_) => "replay",
            Self::Live => "livez",
            Self::Ready => "readyz",
            Self::Metrics => "metrics",
        }
    }
}

/// Finds the route.
pub(crate) fn route(method: &Method, path: &str) -> Routed {
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let get = |route: Route| {
        let fits = *method == Method::GET || *method == Method::HEAD;
        if fits { Routed::Found(route) } else { Routed::OtherMethod("GET, HEAD") }
    };
    let post = |route: Route| {
        if *method == Method::POST { Routed::Found(route) } else { Routed::OtherMethod("POST") }
    };
    let ["v1", rest @ ..] = &segments[..] else {
        return match segments[..] {
            ["livez"] => get(Route::Live),
            ["readyz"] => get(Route::Ready),
            ["metrics"] => get(Route::Metrics),
            _ => Routed::Nothing(
                "there is nothing at this path; the interface begins at /v1/tasks and /v1/hooks/{hook}",
            ),
        };
    };
    if rest.iter().any(|segment| segment.len() > MAX_SEGMENT) {
        return Routed::Nothing("no name is this long");
    }
    match *rest {
        ["tasks"] if *method == Method::POST => Routed::Found(Route::CreateTask),
        ["tasks"] => match get(Route::Tasks) {
            Routed::OtherMethod(_) => Routed::OtherMethod("GET, HEAD, POST"),
            found => found,
        },
        ["tasks", id, ref below @ ..] => {
            let Ok(id) = TaskId::try_from((*id).to_owned()) else {
                return Routed::Nothing("a task's id is task_ and 32 hex digits, as its creation answered");
            };
            match *below {
                [] => get(Route::Task(id)),
                ["events"] => get(Route::Events(id)),
                ["graph"] => get(Route::Graph(id)),
                ["steps", step, "log"] => get(Route::Log(id, step.to_owned())),
                ["cancel"] => post(Route::Cancel(id)),
                ["retry"] => post(Route::Retry(id)),
                ["undo"] => post(Route::Undo(id)),
                ["resolve"] => post(Route::Resolve(id)),
                _ => Routed::Nothing(
                    "a task has events, graph, steps/{step}/log, cancel, retry, undo and resolve",
                ),
            }
        }
        ["hooks", hook] => post(Route::Hook(hook.to_owned())),
        ["workflows"] => get(Route::Workflows),
        ["workflows", name] => get(Route::Workflow(name.to_owned())),
        ["sites"] => get(Route::Records(Family::Sites)),
        ["platforms"] => get(Route::Records(Family::Platforms)),
        ["backups"] => get(Route::Records(Family::Backups)),
        ["locks"] => get(Route::Locks),
        ["endpoints"] => get(Route::Endpoints),
        ["deliveries"] => get(Route::Deliveries),
        ["deliveries", id] => get(Route::Delivery(id.to_owned())),
        ["deliveries", id, "replay"] => post(Route::Replay(id.to_owned())),
        _ => Routed::Nothing(
            "there are tasks, hooks/{hook}, workflows, sites, platforms, backups, locks, endpoints and deliveries",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "task_0193f1c20000700080000000000000aa";

    #[test]
    fn every_route_is_found_by_its_method_and_refused_by_others() {
        let id = || TaskId::try_from(ID.to_owned()).unwrap();
        let name = || "x".to_owned();
        let table = [
            ("POST", "/v1/hooks/x", Route::Hook(name())),
            ("POST", "/v1/tasks", Route::CreateTask),
            ("GET", "/v1/tasks", Route::Tasks),
            ("GET", "/v1/tasks/ID", Route::Task(id())),
            ("GET", "/v1/tasks/ID/events", Route::Events(id())),
            ("GET", "/v1/tasks/ID/graph", Route::Graph(id())),
            ("GET", "/v1/tasks/ID/steps/x/log", Route::Log(id(), name())),
            ("POST", "/v1/tasks/ID/cancel", Route::Cancel(id())),
            ("POST", "/v1/tasks/ID/retry", Route::Retry(id())),
            ("POST", "/v1/tasks/ID/undo", Route::Undo(id())),
            ("POST", "/v1/tasks/ID/resolve", Route::Resolve(id())),
            ("GET", "/v1/workflows", Route::Workflows),
            ("GET", "/v1/workflows/x", Route::Workflow(name())),
            ("GET", "/v1/sites", Route::Records(Family::Sites)),
            ("GET", "/v1/platforms", Route::Records(Family::Platforms)),
            ("GET", "/v1/backups", Route::Records(Family::Backups)),
            ("GET", "/v1/locks", Route::Locks),
            ("GET", "/v1/endpoints", Route::Endpoints),
            ("GET", "/v1/deliveries", Route::Deliveries),
            ("GET", "/v1/deliveries/x", Route::Delivery(name())),
            ("POST", "/v1/deliveries/x/replay", Route::Replay(name())),
            ("GET", "/livez", Route::Live),
            ("GET", "/readyz", Route::Ready),
            ("GET", "/metrics", Route::Metrics),
        ];
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
            assert!(matches!(route(&Method::DELETE, &path), Routed::OtherMethod(_)), "DELETE {path}");
        }
        assert_eq!(route(&Method::PUT, "/v1/tasks"), Routed::OtherMethod("GET, HEAD, POST"));
        assert_eq!(
            route(&Method::GET, "/v1/hooks/x"),
            Routed::OtherMethod("POST"),
            "link previews start nothing"
        );
    }

    #[test]
    fn nothing_else_is_there() {
        let long = format!("/v1/hooks/{}", "x".repeat(81));
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
            "/livez/x",
            "/V1/tasks",
            "/v1/tasks/task_0193F1C20000700080000000000000AA",
            "*",
            &long,
        ] {
            assert!(matches!(route(&Method::GET, path), Routed::Nothing(_)), "{path}");
            assert!(matches!(route(&Method::POST, path), Routed::Nothing(_)), "{path}");
        }
    }
}
