<?php
// BEGIN kedge 1: the web server and commands name the directory of a site (KEDGE_SITE), so that it is found under each of its names.
// Written once and left when sites go: it finds nothing but sites of Kedge. Lines of your own belong above.
$kedge_site = isset($_SERVER['KEDGE_SITE']) ? (string) $_SERVER['KEDGE_SITE'] : (string) getenv('KEDGE_SITE');
if (strlen($kedge_site) <= 255 && preg_match('/^\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/D', $kedge_site)) {
  $kedge_host = isset($http_host) ? $http_host : (isset($_SERVER['HTTP_HOST']) ? $_SERVER['HTTP_HOST'] : '');
  $sites[implode('.', array_reverse(explode(':', rtrim($kedge_host, '.'))))] = $kedge_site;
}
// END kedge
