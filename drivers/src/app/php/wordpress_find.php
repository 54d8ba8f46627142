<?php
// What a site is that Kedge did not make, by its own settings and code. Tells no password.

$kedge_home = defined('WP_HOME') ? WP_HOME : kedge_option('home');
if ($kedge_home === null || kedge_db_version() === null) {
    Kedge::refuse('WordPress is not installed in the database of ' . Kedge::$in['dir']);
}
$kedge_url = parse_url($kedge_home);
if (!isset($kedge_url['host']) || isset($kedge_url['port']) || trim($kedge_url['path'] ?? '', '/') !== '') {
    Kedge::refuse("the site's address is $kedge_home: a site is served under a host name of its own, without port and path");
}
$kedge_site = defined('WP_SITEURL') ? WP_SITEURL : kedge_option('siteurl');
if (trim((string) parse_url((string) $kedge_site, PHP_URL_PATH), '/') !== '') {
    Kedge::refuse("WordPress itself is at $kedge_site, below the site's address: move it up first");
}
if (realpath(WP_CONTENT_DIR) !== realpath(Kedge::$in['dir']) . '/wp-content') {
    Kedge::refuse('its wp-content is at ' . WP_CONTENT_DIR . ': it has to be the directory wp-content beside its wp-config.php');
}
Kedge::answer([
    'host' => $kedge_url['host'],
    'version' => $wp_version,
    'schema_version' => kedge_db_version(),
    'database_host' => DB_HOST,
    'database' => DB_NAME,
    'user' => DB_USER,
    'tables' => (int) $wpdb->get_var('SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()'),
]);
