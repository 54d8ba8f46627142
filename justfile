# The recipes people type. `just` alone lists them.

default:
    @just --list --unsorted

# The demonstration: a real site migrates, rolls back, and comes back
demo:
    scripts/demo

# Every test, with containers
test:
    scripts/test

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

# Simulates tasks from random seeds; SEED reproduces one, RUNS sets how many
sim SEED="" RUNS="1000000":
    KEDGE_SEED={{SEED}} KEDGE_RUNS={{RUNS}} cargo test --release -p kedge-engine --test simulation -- --nocapture

# Benchmarks, each beside its raw limit in the same run
bench:
    cargo run --release -q -p kedge-stores --example commit_bench
    cargo run --release -q -p kedge-stores --example engine_bench
    cargo run --release -q -p kedge-it --bin kedge-bench

# A test host to play with; Ctrl-C ends it
host:
    cargo run -p kedge-testenv --example host
