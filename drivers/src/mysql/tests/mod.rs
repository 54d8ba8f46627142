//! The driver on real servers, in containers: one test, because the scenarios share a server and would see each other.

mod odd;
mod real;

/// Runs a scenario on a server and says so.
macro_rules! scenario {
    ($bench:expr, $module:ident::$name:ident) => {
        println!("{}: {}", $bench.container, stringify!($name));
        $module::$name($bench).await;
    };
}

#[tokio::test]
async fn real_servers() {
    let benches = real::Benches::open().await;
    for from in &benches.all {
        for to in &benches.all {
            println!("from {} to {}", from.container, to.container);
            odd::a_dump_moves_between_servers(from, to).await;
        }
    }
    for bench in &benches.all {
        println!("{}: {}", bench.container, bench.version().await);
        scenario!(bench, real::the_contract_is_kept);
        scenario!(bench, real::secrets_are_in_no_argument_error_or_fingerprint);
        scenario!(bench, real::an_interrupted_creation_can_be_repeated_and_undone);
        scenario!(bench, real::a_user_keeps_the_rights_that_others_gave_it);
        scenario!(bench, real::a_server_that_is_away_is_unavailable);
        scenario!(bench, real::a_blocked_change_gives_up);
        scenario!(bench, odd::odd_schemas_survive_a_dump_and_an_import);
        scenario!(bench, odd::events_come_in_switched_off_and_are_started);
        scenario!(bench, odd::every_kind_of_change_is_seen);
        scenario!(bench, odd::a_dump_is_plain_sql_for_any_server);
        scenario!(bench, odd::a_row_beyond_the_packet_is_refused);
    }
    benches.close().await;
}
