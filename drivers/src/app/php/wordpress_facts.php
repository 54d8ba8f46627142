<?php
// What the site is.

$kedge_installed = kedge_option('siteurl') !== null;
Kedge::answer([
    'installed' => $kedge_installed,
    'version' => $wp_version,
    'schema_version' => kedge_db_version(),
    'update_pending' => $kedge_installed && kedge_db_version() !== (int) $wp_db_version,
]);
