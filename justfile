# What developers and CI run. `just` alone lists it.

_default:
    @just --list

# Serve the current folder on http://127.0.0.1:3000.
run *arguments:
    cargo run --package local -- {{arguments}}

# Run every test.
test *arguments:
    cargo test --workspace {{arguments}}

# Check format and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- --deny warnings

# Measure.
bench *arguments:
    cargo bench --package local {{arguments}}

# Build the functions as AWS Lambda wants them.
build-lambda:
    cargo lambda build --profile lambda --arm64 --output-format zip

# Build and deploy to AWS; the first time with --guided, which asks for what it does not know.
deploy *arguments:
    sam build
    sam deploy {{arguments}}

# Check template.yaml with the SAM CLI, cfn-lint and checkov, which it installs below target/.
scan:
    .ci/scan
