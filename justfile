# The recipes people type. `just` alone lists them.

default:
    @just --list --unsorted

# The demonstration: a real site migrates, rolls back, and comes back
demo:
    scripts/demo

# The tests, with whole tasks on real servers in containers
test:
    scripts/test

# The drivers' and the test environment's own suites, on real servers in containers
contracts:
    cargo run --quiet -p kedge-testenv --example prepare
    KEDGE_DOCKER_TESTS=1 cargo test -p kedge-drivers -p kedge-testenv

# Oracle's MySQL 9: its host's image (once, two minutes), the database driver's suite on it and on MariaDB, and whole tasks on it
mysql: _prepared
    KEDGE_DOCKER_TESTS=1 KEDGE_MYSQL_TESTS=1 cargo test --workspace --lib mysql::tests::real_servers -- --nocapture
    KEDGE_DOCKER_TESTS=1 KEDGE_MYSQL_TESTS=1 cargo test --workspace --test whole mysql:: -- --test-threads 1 --nocapture

# The tests that need no Docker
check:
    cargo test --workspace

# What CI runs
ci:
    .ci/run

# Formatting and lints
lint:
    cargo fmt --all -- --check
    cargo clippy --workspace --all-targets -- -D warnings

# Simulates tasks from random seeds until one lies: then tells the smallest story of it. `just sim 1000000`: so many; KEDGE_SEED: one again
sim RUNS="0":
    KEDGE_RUNS={{RUNS}} cargo test --profile sim -p kedge-engine --test it -- --exact --nocapture \
        sim::whatever_fails_and_whenever_it_dies_it_is_done_or_as_before

# The fixed million of the simulation
million:
    scripts/sim-ci

# Deliberate bugs in machine, executor and store: each has to be found
mutants *NAMES:
    scripts/mutants {{NAMES}}

# Every workflow on fakes: every call, step and undo fails or runs twice, the process dies at every place, and at every place after that
matrix:
    KEDGE_MATRIX=whole cargo test --release -p kedge-workflows --test matrix -- --nocapture

# The crash and failure matrix with the real binary on test hosts, nginx and Apache; POINTS: sample:N, failures (of each step) or all; KEDGE_SEED repeats one
drill POINTS="sample:20": _prepared
    KEDGE_DOCKER_TESTS=1 KEDGE_DRILL_POINTS={{POINTS}} cargo test --workspace --test whole drill -- --test-threads 1 --nocapture

# The failure cases on nginx and on Apache over SSH: all of them on both; KEDGE_CASE=9,36: some
failures: _prepared
    KEDGE_DOCKER_TESTS=1 KEDGE_CASES=all cargo test --workspace --test whole failure_cases -- --test-threads 1 --nocapture

# Everything that takes text of strangers, on random input, for so many minutes; each round prints its seed, KEDGE_SEED repeats one
fuzz MINUTES="10":
    scripts/fuzz {{MINUTES}}

# Runs the proofs, or those named, and writes PROOFS.md with their figures
proofs *NAMES: _prepared
    "${CARGO_TARGET_DIR:-target}/debug/kedge-proofs" {{NAMES}}

# kill -9 at random moments of migrates, renames and rollbacks, so many rounds on each web server; KEDGE_SEED repeats them
kills ROUNDS="20": _prepared
    KEDGE_DOCKER_TESTS=1 KEDGE_ROUNDS={{ROUNDS}} cargo test --workspace --test whole kill_dash_nine -- --test-threads 1 --nocapture

# A site's life on three web hosts, nginx and Apache
clusters: _prepared
    KEDGE_DOCKER_TESTS=1 KEDGE_CLUSTERS=all cargo test --workspace --test whole three_web_hosts -- --test-threads 1 --nocapture

# A hosting team's hour on nginx, and on Apache over SSH: TASKS tasks on SITES sites in random order, with kills; then nothing is left
hour TASKS="200" SITES="20": _prepared
    KEDGE_DOCKER_TESTS=1 KEDGE_TASKS={{TASKS}} KEDGE_SITES={{SITES}} cargo test --workspace --test whole a_teams_hour -- --test-threads 1 --nocapture

# Benchmarks, each beside its raw limit in the same run, with targets; fails when one is missed
bench:
    cargo build --release -q --example bench
    cargo run --release -q -p kedge-stores --example commit_bench
    cargo run --release -q -p kedge-workflows --example rewrite_bench
    cargo run --release -q --example bench

# Site tasks beside the same by hand, the way that Aegir takes, on one test host; fails when a ratio is missed. KEDGE_WP_CLI=<phar>: rewrite by hand with it
bench-tasks:
    cargo build --release --quiet -p kedge
    cargo run --quiet -p kedge-testenv --example prepare
    KEDGE_BIN=target/release/kedge cargo run --quiet -p kedge-it --bin kedge-bench-tasks

# A test host to play with; Ctrl-C ends it
host:
    cargo run -p kedge-testenv --example host

# Everything built at once (a package alone would have its dependencies built anew with other features), and the test hosts' image
_prepared:
    cargo build --quiet --workspace --all-targets
    "${CARGO_TARGET_DIR:-target}/debug/examples/prepare"
