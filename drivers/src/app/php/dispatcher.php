<?php
// kedge dispatcher 2: several sites share this WordPress; this file picks the one that is asked for. Written by Kedge, which takes
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
if ( isset( $_GET['kedge_login'] ) ) {
	// No page cache keeps or answers this.
	defined( 'DONOTCACHEPAGE' ) || define( 'DONOTCACHEPAGE', true );
}
require $kedge_settings;
require_once ABSPATH . 'wp-settings.php';

// A login link lets in who holds it if, and only if, the site's own database has its row: whose login it is, until when, and a hash of
// the link. Kedge writes such rows; each is taken out by its use, and WordPress removes it when its time is over. No row, no way in.
if ( isset( $_GET['kedge_login'] ) && is_string( $_GET['kedge_login'] ) ) {
	call_user_func(
		static function ( $site, $link ) {
			global $wpdb;
			nocache_headers();
			header( 'Referrer-Policy: no-referrer' );
			header( 'X-Robots-Tag: noindex' );
			$row   = '';
			$value = '';
			$user  = false;
			if ( preg_match( '/^([0-9a-f]{32})\.[0-9a-f]{64}$/D', $link, $found ) ) {
				$row   = 'kedge_login_' . $found[1];
				$value = (string) $wpdb->get_var( $wpdb->prepare( "SELECT option_value FROM $wpdb->options WHERE option_name = %s", "_transient_$row" ) );
				$told  = explode( ':', $value );
				if ( 3 === count( $told ) && hash_equals( $told[2], hash( 'sha256', "kedge login\n$site\n$link" ) ) && time() < (int) $told[1] ) {
					$user = get_user_by( 'id', (int) $told[0] );
				}
			}
			// Links are followed by more than people: looking at one does not use it up.
			$used = 'POST' === $_SERVER['REQUEST_METHOD'];
			if ( $user && $used ) {
				$gone = $wpdb->query( $wpdb->prepare( "DELETE FROM $wpdb->options WHERE option_name = %s AND option_value = %s", "_transient_$row", $value ) );
				$user = 1 === $gone ? $user : false;
			}
			if ( ! $user ) {
				wp_die( 'This login link was used or taken back, or its time is over. Ask for a new one.', 'Login', array( 'response' => 403 ) );
			}
			if ( ! $used ) {
				$text = sprintf( 'Log in to %s as %s? This link works once.', get_bloginfo( 'name' ), $user->user_login );
				header( 'Content-Type: text/html; charset=utf-8' );
				echo '<!DOCTYPE html><html><head><meta charset="utf-8"><title>Login</title></head><body><form method="post"><p>' . esc_html( $text ) . '</p><p><button>Log in</button></p></form></body></html>';
				exit;
			}
			$wpdb->query( $wpdb->prepare( "DELETE FROM $wpdb->options WHERE option_name = %s", "_transient_timeout_$row" ) );
			wp_set_auth_cookie( $user->ID );
			do_action( 'wp_login', $user->user_login, $user );
			wp_safe_redirect( admin_url() );
			exit;
		},
		basename( dirname( $kedge_settings ) ),
		$_GET['kedge_login']
	);
}
unset( $kedge_settings );
