<?php
// Runs the database update as WordPress's own upgrade page does: without plugins, but those that must be used.

require_once ABSPATH . 'wp-admin/includes/upgrade.php';

(static function () {
    global $wp_db_version, $EZSQL_ERROR;
    $from = kedge_db_version();
    if ($from === null) {
        Kedge::refuse('no WordPress is installed in this database');
    }
    if ($from > (int) $wp_db_version) {
        Kedge::refuse("the database is of a newer WordPress ($from) than the platform ($wp_db_version)");
    }
    delete_site_transient('update_core');
    $EZSQL_ERROR = [];
    wp_upgrade();
    foreach ((array) $EZSQL_ERROR as $error) {
        // WordPress goes on after a failed statement and calls it a success. It asks for tables that are not there and drops
        // indexes that may not be there on purpose; nothing else may fail.
        if (!preg_match('/^\s*(DESC(RIBE)?|SHOW|SELECT)\s|^\s*ALTER\s+TABLE\s+\S+\s+DROP\s+INDEX/i', $error['query'])) {
            Kedge::refuse("the database refused a statement of the update: {$error['error_str']}");
        }
    }
    wp_cache_flush();
    $to = kedge_db_version();
    if ($to !== (int) $wp_db_version) {
        Kedge::refuse("the update ended at schema $to instead of $wp_db_version");
    }
    Kedge::answer(['from' => $from, 'to' => $to]);
})();
