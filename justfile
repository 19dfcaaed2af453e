# What developers and CI run. `just` alone lists it.

_default:
    @just --list

# Serve the current folder on http://127.0.0.1:3000.
run *arguments:
    cargo run --package local -- {{arguments}}

# Run every test.
test *arguments:
    cargo test --workspace {{arguments}}

# Cut off every operation after every other, and every two processes that meet, at each of their system calls. Takes long.
crash-states *arguments:
    cargo test --workspace --test it crash_states:: -- --ignored --nocapture {{arguments}}

# Let every single call of the file system fail in every operation, once and from there on. Takes minutes.
failing-calls *arguments:
    cargo test --workspace --test it failing_calls:: -- --ignored {{arguments}}

# Try Keepsake on many file systems and print a table of what holds; needs root: `just filesystems vfat sshfs`.
filesystems *names:
    .ci/filesystems {{names}}

# Plant the faults of planted/ one by one, and demand that the checks catch each. Takes about an hour.
planted *names:
    .ci/planted {{names}}

# Run what CI runs for every change; at most 25 minutes on two cores.
ci:
    .ci/run

# Run the long checks, or those with this in their names: `just nightly disks`. Takes hours, and needs root.
nightly *names:
    .ci/nightly {{names}}

# Check format and lints.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- --deny warnings

# Explore what the threads of a process do to what they share, at every lock, with shuttle in the place of std's.
interleavings *arguments:
    cargo test --workspace --features shared/interleavings --test interleavings {{arguments}}

# Feed one target in fuzz/ with what libFuzzer makes up; needs a nightly toolchain and cargo-fuzz. What it finds new goes
# into target/, not into the corpus.
fuzz target *arguments:
    mkdir -p target/fuzz/found/{{target}}
    CARGO_TARGET_DIR=target/fuzz cargo +nightly fuzz run --sanitizer none {{target}} \
        target/fuzz/found/{{target}} fuzz/corpus/{{target}} -- -rss_limit_mb=2048 -timeout=10 {{arguments}}

# Measure how costs grow with the store.
bench *arguments:
    cargo bench --package local --bench growth -- {{arguments}}

# Measure what reads cost beside nginx and Caddy.
bench-serve *arguments:
    .ci/bench-serve {{arguments}}

# Measure uploads beside the durable limit of the disk, and thumbnails of new photographs beside vipsthumbnail: `just
# bench-ingest --only uploads --connections 16`.
bench-ingest *arguments:
    .ci/bench-ingest {{arguments}}

# Measure the pages in Chromium on a store of 100,000 images: first paint, longest task while scrolling, bytes of script and style.
bench-browser *arguments:
    cargo build --release --package local
    KEEPSAKE_BROWSER_LIMIT=1h KEEPSAKE_BINARY={{justfile_directory()}}/target/release/keepsake \
        .ci/browser -- node local/benches/browser/main.mjs {{arguments}}

# Measure a restore beside `cp -r` and fsync of the same bytes: `just bench-restore --images 10000`.
bench-restore *arguments:
    cargo bench --package local --bench restore -- {{arguments}}

# Ask for forms of huge images in a cgroup of 256 MB, or of so many MiB: `just memory 512`. Needs root.
memory *arguments:
    .ci/memory {{arguments}}

# Measure a thumbnail beside Debian's vipsthumbnail: `just bench-thumbnail photo.jpg`.
bench-thumbnail *arguments:
    cargo bench --package scaling --bench thumbnail -- {{arguments}}

# Compare the server with Chromium, libheif, libvips and ExifTool on about a thousand test images of five projects, which it
# fetches from Debian; needs root the first time. `just corpus webp` takes those that have this in their names.
corpus *names:
    .ci/corpus {{names}}

# Play whole stores with everything that can go wrong, on both cores: `just simulate --steps 10000000 --seed 1`.
simulate *arguments:
    cargo run --release --package shared --example simulate -- {{arguments}}

# Build the functions as they are deployed, and measure how large they are and how soon they answer.
bench-cold-start *arguments:
    cargo bench --package local --bench cold_start -- {{arguments}}

# Build the functions as AWS Lambda wants them: target/lambda/<function>/bootstrap.zip, for arm64 or, with `just
# build-lambda --x86-64`, for the other machines that Lambda has.
build-lambda machine="--arm64":
    cargo lambda build --profile lambda {{machine}} --output-format zip --workspace --exclude local --exclude hello

# Serve the functions on http://127.0.0.1:9000 as AWS Lambda would, without AWS, on a store in target/watch.
watch *arguments:
    cargo lambda watch --invoke-address 127.0.0.1 --env-var STORE_URL=file://{{justfile_directory()}}/target/watch {{arguments}}

# Build and deploy to AWS; the first time with --guided, which asks for what it does not know.
deploy *arguments:
    sam build
    sam deploy {{arguments}}

# Put the pages behind the CDN of a stack that has `Cdn=on`; needs the AWS CLI.
deploy-pages stack="keepsake":
    #!/usr/bin/env bash
    set -euo pipefail
    bucket=$(aws cloudformation describe-stacks --stack-name {{stack}} \
        --query "Stacks[0].Outputs[?OutputKey=='PagesBucket'].OutputValue" --output text)
    # The browser asks each time, as it asks the server: a page and its scripts are of one version.
    aws s3 sync gallery/assets "s3://$bucket/assets" --delete --cache-control no-cache
    aws s3 cp gallery/index.html "s3://$bucket/index.html" --cache-control no-cache --content-type "text/html; charset=utf-8"
    aws s3 cp gallery/safety.html "s3://$bucket/safety" --cache-control no-cache --content-type "text/html; charset=utf-8"

# Send files with a position through a server with STRIP_GPS=true, and look for it with ExifTool; installs the tools from Debian.
places *names:
    .ci/places {{names}}

# Use the pages in Debian's Chromium, as people would; `just browser upload` runs what has this in its name.
browser *names:
    .ci/browser {{names}}

# Try a built server on SeaweedFS and Ceph as store and as archive, also behind proxies that play faults; about an hour.
# `just services ceph store none` tries one of each.
services *arguments:
    cargo build --package local
    .ci/services {{arguments}}

# Take the pictures in docs/images/ anew.
screenshots:
    .ci/browser -- node local/tests/browser/screenshots.mjs

# Check template.yaml with the SAM CLI, cfn-lint and checkov, which it installs below target/.
scan:
    .ci/scan

# Try the server behind real nginx and real Caddy with the files in deploy/; installs both.
proxies:
    .ci/proxies

# Hold a running server to its own OpenAPI document with schemathesis, which it installs below target/.
openapi *arguments:
    .ci/openapi {{arguments}}

# Generate clients in Python and TypeScript from the OpenAPI document, and use them; installs the generators below target/.
clients:
    .ci/clients
