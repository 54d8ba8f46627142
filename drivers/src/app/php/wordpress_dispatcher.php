<?php
// kedge-dispatcher 1. Managed by Kedge: picks the site of a request by its host name. Sites are below sites/.
$kedge_site = strtolower((string) ($_SERVER['KEDGE_SITE'] ?? $_SERVER['HTTP_HOST'] ?? ''));
$kedge_site = preg_replace('/:[0-9]+$/D', '', $kedge_site);
if (strlen($kedge_site) > 253 || !preg_match('/^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$/D', $kedge_site)
    || !is_file(__DIR__ . '/sites/' . $kedge_site . '/wp-config.php')) {
    if (PHP_SAPI !== 'cli') { http_response_code(404); header('Content-Type: text/plain'); }
    exit("There is no such site here.\n");
}
require __DIR__ . '/sites/' . $kedge_site . '/wp-config.php';
