//! The applications on a real host, in a container: with `KEDGE_DOCKER_TESTS=1`.

mod drupal;
mod drupal_replayed;
mod plain;
mod real;
mod wordpress;

#[tokio::test]
async fn real_drupals() {
    let Some(bench) = real::Bench::open().await else { return };
    for drupal in drupal::DrupalBench::open(&bench).await {
        drupal::a_platform_without_drush_is_refused(&drupal).await;
        drupal::foreign_lines_of_a_platform_stay(&drupal).await;
        kedge_workflows::testing::app_contract(&drupal).await;
    }
    bench.close().await;
}

#[tokio::test]
async fn real_applications() {
    let Some(bench) = real::Bench::open().await else { return };
    kedge_workflows::testing::app_contract(&bench).await;
    wordpress::a_site_survives_what_its_code_does(&bench).await;
    wordpress::visits_change_volatile_rows_only(&bench).await;
    wordpress::the_dispatcher_picks_by_host_and_nothing_else(&bench).await;
    wordpress::a_login_link_lets_in_once(&bench).await;
    wordpress::a_platform_in_maintenance_is_looked_at(&bench).await;
    wordpress::no_secret_is_an_argument(&bench).await;
    plain::a_plain_site_is_what_its_configuration_says(&bench).await;
    bench.close().await;
}
