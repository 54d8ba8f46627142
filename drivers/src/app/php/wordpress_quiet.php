// Quiet: no mail, no cron, no requests to others but wordpress.org, until `kedge task configure` with quiet=false.
defined( 'WP_ENVIRONMENT_TYPE' ) || define( 'WP_ENVIRONMENT_TYPE', 'staging' );
defined( 'DISABLE_WP_CRON' ) || define( 'DISABLE_WP_CRON', true );
defined( 'WP_HTTP_BLOCK_EXTERNAL' ) || define( 'WP_HTTP_BLOCK_EXTERNAL', true );
defined( 'WP_ACCESSIBLE_HOSTS' ) || define( 'WP_ACCESSIBLE_HOSTS', '*.wordpress.org' );
$GLOBALS['wp_filter']['pre_get_ready_cron_jobs'][10]['kedge'] = array( 'function' => '__return_empty_array', 'accepted_args' => 0 );
$GLOBALS['wp_filter']['action_scheduler_allow_async_request_runner'][10]['kedge'] = array( 'function' => '__return_false', 'accepted_args' => 0 );
if ( ! function_exists( 'wp_mail' ) ) {
	function wp_mail( $to = '', $subject = '', $message = '', $headers = '', $attachments = array(), $embeds = array() ) {
		return true;
	}
}
