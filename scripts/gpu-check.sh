#!/usr/bin/env bash
# Proves and times hafuse on a machine with an NVIDIA card. Two steps, on one machine or on two:
#
#   scripts/gpu-check.sh pack DIR    where Rust and nvcc are: builds, and collects all that is needed
#   DIR/gpu-check.sh run [REPORT]    where the card is: tests, sanitizer, timings; neither Rust nor network
#
# `run` writes REPORT.md and REPORT.json (default: DIR/report) for docs/gpu-runs/ and exits with 1 if a
# check failed. CHECK_SIZE=WxH and CHECK_RUNS=N make it smaller; CHECK_SANITIZE=0 leaves the sanitizer out.
set -euo pipefail

pack() {
    local out=$1
    cd "$(dirname "$0")/.."
    mkdir -p "$out/bin"
    cargo build --release --locked
    cp target/release/hafuse "$out/bin/hafuse"
    if "$out/bin/hafuse" --version | grep -q "built without nvcc"; then
        echo "nvcc was not found, so this binary has no kernels; put it on the PATH or set NVCC" >&2
        exit 1
    fi
    # The last field of cargo's messages names each test's executable.
    cargo test --release --locked --no-run --test cuda --test cuda_memory --message-format=json |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | while read -r file; do
        case $(basename "$file") in
        cuda_memory-*) cp "$file" "$out/bin/test_cuda_memory" ;;
        cuda-*) cp "$file" "$out/bin/test_cuda" ;;
        esac
    done
    strip "$out"/bin/* 2>/dev/null || true
    cp -r samples "$out/samples"
    cp scripts/gpu-check.sh "$out/gpu-check.sh"
    git rev-parse --short HEAD >"$out/commit" 2>/dev/null || echo unknown >"$out/commit"
    "$out/bin/hafuse" --version
    du -sh "$out"
}

failed=0
md=
work=

# A section of the report: title, then a command whose output goes below it.
section() {
    local title=$1 status=0
    shift
    printf '== %s\n' "$title"
    "$@" >"$work/out" 2>&1 || status=$?
    # Long logs keep their end, where totals and failures stand.
    {
        printf '\n## %s\n\n`%s`\n\n```\n' "$title" "${*/#$here\//}"
        tail -n 120 "$work/out"
        printf '```\n'
    } >>"$md"
    if [ "$status" -ne 0 ]; then
        failed=1
        printf '\n**Failed with exit code %s.**\n' "$status" >>"$md"
        tail -n 20 "$work/out"
    fi
    checks+=("{\"check\": \"$title\", \"exit_code\": $status}")
}

run() {
    here=$(cd "$(dirname "$0")" && pwd)
    local report=${1:-$here/report}
    local size=${CHECK_SIZE:-620x448} runs=${CHECK_RUNS:-30}
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    md=$report.md
    checks=()
    export HAFUSE_TEST_GPU=${HAFUSE_TEST_GPU:-1} HAFUSE_SAMPLES=$here/samples
    local hafuse=$here/bin/hafuse
    {
        printf '# GPU check\n\n%s, commit %s, %s.\n' "$(date -u +%F)" "$(cat "$here/commit")" \
            "$("$hafuse" --version | head -n 1)"
    } >"$md"
    if command -v nvidia-smi >/dev/null; then
        section "Card" nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit --format=csv
    fi
    section "Doctor" "$hafuse" doctor
    section "Operators, fusions and training steps against the CPU" "$here/bin/test_cuda" --nocapture --test-threads 4
    section "Memory" "$here/bin/test_cuda_memory" --nocapture
    if [ "${CHECK_SANITIZE:-1}" = 1 ] && command -v compute-sanitizer >/dev/null; then
        section "compute-sanitizer memcheck" compute-sanitizer --tool memcheck --error-exitcode 9 \
            "$here/bin/test_cuda" operators:: --test-threads 1
        section "compute-sanitizer memcheck, training steps" compute-sanitizer --tool memcheck \
            --error-exitcode 9 "$here/bin/test_cuda" network::training --test-threads 1
        section "compute-sanitizer synccheck" compute-sanitizer --tool synccheck --error-exitcode 9 \
            "$here/bin/test_cuda" operators:: --test-threads 1
        section "compute-sanitizer racecheck" compute-sanitizer --tool racecheck --error-exitcode 9 \
            "$here/bin/test_cuda" operators:: --test-threads 1
    else
        printf '\ncompute-sanitizer: not run (not found, or CHECK_SANITIZE=0).\n' >>"$md"
    fi
    # The network that fills a card.
    local precision net=(bench net --device cuda --model ivif)
    for precision in f32 f16; do
        section "Operators in $precision" "$hafuse" bench ops --device cuda --precision $precision \
            --size "$size" --runs "$runs" --effort "${CHECK_EFFORT:-256}" --json "$work/ops_$precision.json"
        section "Network in $precision" "$hafuse" "${net[@]}" --precision $precision \
            --size "$size" --runs "$runs"
        section "Network in $precision, kernels one by one" "$hafuse" "${net[@]}" \
            --precision $precision --size "$size" --runs "$runs" --eager
        "$hafuse" "${net[@]}" --precision $precision --size "$size" --runs "$runs" --json \
            >"$work/net_$precision.json" 2>/dev/null || echo null >"$work/net_$precision.json"
    done
    section "A fused sample" "$hafuse" fuse "$here/samples/street_1_ir.png" "$here/samples/street_1_vi.png" \
        -o "$report.png" --device cuda
    section "Pairs to train on" "$hafuse" synth "$work/data" --scene street --count 4
    section "Training steps" train "$hafuse" "$work"
    {
        printf '{"date": "%s", "commit": "%s", "checks": [' "$(date -u +%F)" "$(cat "$here/commit")"
        local IFS=,
        printf '%s], "doctor": ' "${checks[*]}"
        "$hafuse" doctor --json
        for precision in f32 f16; do
            printf ', "ops_%s": ' $precision
            cat "$work/ops_$precision.json" 2>/dev/null || echo null
            printf ', "net_%s": ' $precision
            cat "$work/net_$precision.json"
        done
        printf '}\n'
    } >"$report.json"
    printf 'report: %s and %s\n' "$md" "$report.json"
    exit $failed
}

# Some steps of each stage; what stops them is asked for, so exit code 6 is success.
train() {
    local status=0
    "$1" train --a "$2/data/ir" --b "$2/data/vi" --perceptual none --out "$2/run" --device cuda \
        --set "stage1.epochs=${CHECK_EPOCHS:-20}" --set "stage2.epochs=${CHECK_EPOCHS:-20}" \
        --set log_every=10 --set preview_every=1000000 || status=$?
    [ "$status" = 0 ] || [ "$status" = 6 ] || return "$status"
    tail -n 3 "$2/run/metrics.jsonl"
}

case ${1:-} in
pack) pack "${2:?usage: gpu-check.sh pack DIR}" ;;
run) run "${2:-}" ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
