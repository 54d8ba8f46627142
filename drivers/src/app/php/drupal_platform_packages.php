<?php
// What the platform gives its sites.

(static function (string $root) {
    Kedge::answer(['packages' => kedge_platform_packages($root, kedge_core($root))]);
})(Kedge::$in['platform_root']);
