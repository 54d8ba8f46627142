<?php
// What the platform is.

$kedge_root = Kedge::$in['platform_root'];
$kedge_core = kedge_core($kedge_root);
Kedge::answer([
    'version' => $kedge_core['version'],
    'schema_version' => kedge_core_schema($kedge_root, $kedge_core['seven']),
    'seven' => $kedge_core['seven'],
]);
