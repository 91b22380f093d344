# One entry point for people and for CI. `just --list` shows one line per recipe.

set shell := ["bash", "-euo", "pipefail", "-c"]

tools := env("XDG_CACHE_HOME", env("HOME") / ".cache") / "dittofs-conformance" / "bin"
export PATH := tools + ":" + env("PATH")

# Show the recipes
default:
    @just --list

# Install the developer's tools (just, nextest, cargo-deny, zizmor, actionlint, check-jsonschema) into the cache
bootstrap:
    ci/bootstrap

# Ubuntu: install Debian's keyring, by which the package of pgBackRest is verified (by sudo, unless it is there)
debian-keyring:
    test -e /usr/share/keyrings/debian-archive-keyring.gpg || \
        (sudo apt-get update && sudo apt-get install --yes debian-archive-keyring)

# Build everything
build:
    cargo build --workspace --all-targets

# Format the code
fmt:
    cargo fmt --all

# Check the formatting
fmt-check:
    cargo fmt --all --check

# Run clippy; a warning is an error
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Check what is in the dependency graph: one TLS provider, known licences and sources
deny:
    cargo deny --locked check bans licenses sources
    ! cargo tree --locked -i aws-lc-rs 2>/dev/null | grep -q .

# Write the generated files again: JSON schemas, CRD, manifests, docs/requirements.md, docs/defects.md, the table of environments
generate:
    ci/generate

# Fail when a generated file is stale, or anything below scenarios, implementations, operator or docs is not committed
generated: generate
    git diff --exit-code -- scenarios implementations operator docs
    # A file that nobody has committed is stale too.
    test -z "$(git status --porcelain -- scenarios implementations operator docs)"

# Check the scenarios without running them, and hold the files that people copy from to their JSON schemas
lint-scenarios:
    cargo run --quiet -p conformance -- lint
    check-jsonschema --schemafile scenarios/schema.json scenarios/[a-z]*/*.yaml
    check-jsonschema --schemafile scenarios/step-template.schema.json scenarios/_steps/*.yaml
    check-jsonschema --schemafile implementations/schema.json implementations/*.yaml

# Check the workflows of GitHub Actions
workflows:
    actionlint
    zizmor --offline --persona=regular .github/workflows

# Run all tests, the scenarios among them
test *ARGS:
    cargo nextest run --workspace --locked {{ ARGS }}

# Run all tests for CI, which runs every scenario on its own anyway: here those of one area, as tests of nextest
[private]
test-in-ci:
    cargo nextest run --workspace --locked -E 'not binary(scenarios) or test(/^gate::/)'

# Lint the operator's chart, render it, and compare it with its snapshots
chart:
    cargo nextest run --workspace --locked -E 'binary(chart)'

# Run every scenario on the embedded environment
embedded *ARGS:
    cargo run -p conformance -- run {{ ARGS }}

# Run every scenario on the embedded environment; a skip that ci/allowed-skips.yaml does not explain is a failure
embedded-no-skips:
    cargo run -p conformance -- run --no-skips --allowed-skips ci/allowed-skips.yaml

# Run every scenario on the embedded environment of every other Kubernetes that is built already; with CI_FULL=1 on all
embedded-other-versions:
    ci/other-versions

# Write the conformance report of the last run, or of the given report.json files
report *ARGS:
    cargo run --quiet -p conformance -- report {{ ARGS }}

# Make the images of the kind environment without a registry
offline-images *ARGS:
    ci/offline-images {{ ARGS }}

# The suite, and the workload that goes into an image: `cargo run` builds the first alone
[private]
programs:
    cargo build --locked -p conformance --bins

# Run every scenario on a kind cluster with the real Percona operator (needs Docker)
e2e *ARGS: programs
    cargo run -p conformance -- run --env kind {{ ARGS }}

# Run one scenario on kind, such as `just e2e-one credential_rotation`
e2e-one NAME *ARGS: programs
    cargo run -p conformance -- run --env kind --filter {{ NAME }} {{ ARGS }}

# Run every scenario on kind without a registry, with the double (skipped where there is no kind lab)
e2e-offline *ARGS: programs
    ci/lab with cargo run --locked -p conformance -- run {{ ARGS }}

# GitHub: which Kubernetes versions the end-to-end workflow runs on
e2e-versions:
    ci/kubernetes-versions

# GitHub: build the tests and the images that every cell of the matrix uses
e2e-build:
    mkdir -p target/e2e
    cargo nextest archive --workspace --locked --archive-file target/e2e/tests.tar.zst
    cargo build --workspace --locked
    target/debug/conformance env images --output target/e2e/images

# GitHub: run the scenarios on kind from what `just e2e-build` made
e2e-cell:
    ci/cell target/e2e

# GitHub: write the summary of a cell
e2e-summary:
    ci/summary target/nextest/default/junit.xml

# Run the backup scenarios against a real MinIO
embedded-minio:
    cargo run -p conformance -- run --s3 minio --filter backup/ --no-skips

# Run all scenarios (not only those of the core level) twenty times in a row, concurrently, without a retry
soak-core COUNT="20":
    cargo run -p conformance -- run --repeat {{ COUNT }} --no-skips --allowed-skips ci/allowed-skips.yaml

# Measure start, scenarios, verdicts, tear-down and memory
bench *ARGS:
    cargo run -p conformance -- bench {{ ARGS }}

# Break the operator in each known way and see that the right scenarios say so; such as `just defects gate::does_not_need_the_uri`
defects *ARGS:
    cargo test -p conformance --test defects -- --ignored {{ ARGS }}

# Break the operator in up to six known ways at once: a quarter of the time of `just defects`, nearly the same verdict
defects-together *ARGS:
    DEFECTS_TOGETHER=6 cargo test -p conformance --test defects -- --ignored {{ ARGS }}

# Break the operator in each known way on kind, without a registry; such as `just defects-kind gate::does_not_need_the_uri`
defects-kind *ARGS:
    ci/lab with cargo test -p conformance --test defects -- --ignored {{ ARGS }}

# Change the operator in every small way: the unit tests judge all changes, the scenarios a sample of them
mutants *ARGS: (mutants-units ARGS) mutants-scenarios

# Let the unit tests judge every small change of the operator; what survives is no failure (exit code 2 of cargo-mutants), it stands in docs/mutants.md
mutants-units *ARGS:
    ci/bootstrap mutants
    mkdir -p target/mutants
    cargo mutants -p dittofs-operator --output target/mutants {{ ARGS }} || [ $? = 2 ]

# Let the scenarios judge a sample of the small changes of the operator
mutants-scenarios:
    ci/bootstrap mutants
    cargo test -p conformance --test mutants -- --ignored

# Kill everything at random moments and see that nothing stays behind
leaks *ARGS:
    cargo test -p conformance --test leaks -- --ignored {{ ARGS }}

# End the environment that tests have kept
env-down:
    cargo run --quiet -p conformance -- env down

# Interrupt and kill runs on kind in every phase, and see that nothing stays behind (needs Docker)
leaks-kind *ARGS:
    cargo test -p conformance --test kind -- --ignored --test-threads 1 {{ ARGS }}

# Remove what a killed run left behind
clean:
    cargo run --quiet -p conformance -- clean

# Everything that CI runs, in its order
ci: fmt-check lint deny workflows generated lint-scenarios test-in-ci embedded-no-skips embedded-other-versions embedded-minio e2e-offline
