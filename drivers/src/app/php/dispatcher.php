<?php
// kedge dispatcher 1: several sites share this WordPress; this file picks the one that is asked for. Written by Kedge, which takes
// it back when no site is left. Settings belong into sites/<site>/wp-config.php.

$kedge_settings = call_user_func(
	static function () {
		$site = isset( $_SERVER['KEDGE_SITE'] ) ? (string) $_SERVER['KEDGE_SITE'] : '';
		$form = '/^\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/D';
		if ( '' === $site ) {
			$host = isset( $_SERVER['HTTP_HOST'] ) ? (string) $_SERVER['HTTP_HOST'] : '';
			$site = rtrim( preg_replace( '/:[0-9]+$/D', '', strtolower( $host ) ), '.' );
			$form = '/^[a-z0-9_-]+(\.[a-z0-9_-]+)+$/D';
		}
		$file = __DIR__ . '/sites/' . $site . '/wp-config.php';
		if ( strlen( $site ) > 255 || ! preg_match( $form, $site ) || ! is_file( $file ) ) {
			if ( ! headers_sent() ) {
				http_response_code( 404 );
				header( 'Content-Type: text/plain; charset=utf-8' );
			}
			echo "There is no such site here.\n";
			exit( 1 );
		}
		return $file;
	}
);
require $kedge_settings;
unset( $kedge_settings );
require_once ABSPATH . 'wp-settings.php';
