<?php
// Loads a site as its visitors' requests do, from the directory where it is now, published or not. Runs in the global scope,
// where WordPress wants its settings. No cron, no mail, no HTTP, no recovery mode: a site at work behind the scenes reaches nobody.

define('ABSPATH', Kedge::$in['platform_root'] . '/');
define('DISABLE_WP_CRON', true);
define('WP_DISABLE_FATAL_ERROR_HANDLER', true);
if (Kedge::$in['mode'] === 'short') {
    define('SHORTINIT', true);
} else {
    define('WP_INSTALLING', true);
}
$_SERVER = [
    'HTTP_HOST' => Kedge::$in['site'], 'SERVER_NAME' => Kedge::$in['site'], 'KEDGE_SITE' => basename(Kedge::$in['dir']),
    'REQUEST_URI' => '/', 'REQUEST_METHOD' => 'GET', 'SERVER_PROTOCOL' => 'HTTP/1.1', 'SERVER_PORT' => '80',
    'REMOTE_ADDR' => '127.0.0.1', 'QUERY_STRING' => '', 'SCRIPT_NAME' => '/index.php', 'PHP_SELF' => '/index.php',
    'DOCUMENT_ROOT' => Kedge::$in['platform_root'], 'SCRIPT_FILENAME' => ABSPATH . 'index.php',
] + $_SERVER;

function kedge_false()
{
    return false;
}
function kedge_mail_sent()
{
    return true;
}
function kedge_no_http()
{
    return new WP_Error('http_request_not_executed', 'Kedge lets a site that it works on send no requests.');
}
// In this form WordPress takes hooks that are set before it is loaded.
foreach (['enable_loading_advanced_cache_dropin' => 'kedge_false', 'pre_wp_mail' => 'kedge_mail_sent',
    // A `.maintenance` that somebody's update has left in the platform keeps visitors out, not us.
    'enable_maintenance_mode' => 'kedge_false', 'pre_http_request' => 'kedge_no_http'] as $hook => $function) {
    $GLOBALS['wp_filter'][$hook][10]['kedge'] = ['function' => $function, 'accepted_args' => 1];
}
unset($hook, $function);

chdir(ABSPATH);
if (!is_readable(Kedge::$in['dir'] . '/wp-config.php')) {
    Kedge::refuse('the site has no settings file that PHP can read: ' . Kedge::$in['dir'] . '/wp-config.php');
}
require Kedge::$in['dir'] . '/wp-config.php';
require_once ABSPATH . 'wp-settings.php';

if (is_multisite()) {
    Kedge::refuse('the site is a multisite network (MULTISITE), which Kedge cannot move');
}

/** An option as it is in the database; null when it or the table is not there. */
function kedge_option(string $name): ?string
{
    global $wpdb;
    $shown = $wpdb->suppress_errors(true);
    $value = $wpdb->get_var($wpdb->prepare("SELECT option_value FROM $wpdb->options WHERE option_name = %s", $name));
    $wpdb->suppress_errors($shown);
    return $value;
}

function kedge_db_version(): ?int
{
    $version = kedge_option('db_version');
    return $version === null ? null : (int) $version;
}
