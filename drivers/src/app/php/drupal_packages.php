<?php
// What the site is made of.

Kedge::answer(['packages' => kedge_site_packages($kedge_root, $kedge_core, $kedge_site_dir)]);
