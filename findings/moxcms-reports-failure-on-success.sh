#!/usr/bin/env bash
# moxcms answers false where it did what it was asked to do.
#
# One would guess: `ColorProfile::update_rgb_colorimetry_from_cicp`, which returns a bool, returns true once the profile has the primaries
# and the transfer curve of the code points, and false where it does not know them; a decoder of PNG would ignore a cICP chunk on false.
# What happens: it returns false in both cases. On code points that it knows (Display P3: 12, 13) it changes the colorants, the curves and
# `cicp` and then returns false; on those that it does not know (unspecified: 2, 2) it returns false and changes nothing. Only a
# comparison of the profile's `cicp` shows which of the two it was.
# crates.io: moxcms 0.8.1. Source: src/profile.rs, the last line of the function.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
moxcms = "=0.8.1"
TOML
cat >src/main.rs <<'RS'
use moxcms::{CicpColorPrimaries, CicpProfile, ColorProfile, MatrixCoefficients, TransferCharacteristics};

fn update(primaries: CicpColorPrimaries, curve: TransferCharacteristics) -> (bool, bool) {
    let mut profile = ColorProfile::new_srgb();
    profile.cicp = None;
    let red_before = profile.red_colorant.x;
    let cicp = CicpProfile {
        color_primaries: primaries,
        transfer_characteristics: curve,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range: true,
    };
    let answer = profile.update_rgb_colorimetry_from_cicp(cicp);
    (answer, profile.cicp.is_some() && profile.red_colorant.x != red_before)
}

fn main() {
    let known = update(CicpColorPrimaries::Smpte432, TransferCharacteristics::Srgb);
    let unknown = update(CicpColorPrimaries::Unspecified, TransferCharacteristics::Unspecified);
    println!("moxcms 0.8.1");
    println!("Display P3:  returned {}, profile changed: {}", known.0, known.1);
    println!("unspecified: returned {}, profile changed: {}", unknown.0, unknown.1);
    if known != (false, true) || unknown != (false, false) {
        println!("changed");
        std::process::exit(1);
    }
}
RS
cargo run --quiet
