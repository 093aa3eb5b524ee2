#!/usr/bin/env bash
# Trains built-in models from their recipes, one after the other, each from where it stopped.
#
#   scripts/train-models.sh DATA RUNS [MODEL...]
#
# DATA holds the folders that the recipes name, RUNS gets one folder for each model. Stopped or killed, the same command
# goes on with the same bits. Without a MODEL all recipes run. THREADS=N takes N threads (1), DEVICE=cuda a card, HAFUSE another
# binary.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
data=$1
mkdir -p "$2"
runs=$(cd "$2" && pwd)
shift 2
hafuse=${HAFUSE:-$root/target/release/hafuse}
[ $# -gt 0 ] || set -- $(basename -s .toml "$root"/models/recipes/*.toml)
cd "$data"
for model in "$@"; do
    out=$runs/$model
    if [ -f "$out/model.safetensors" ]; then
        echo "$model: trained, $out/model.safetensors"
        continue
    fi
    resume=()
    if [ -f "$out/checkpoint.safetensors" ]; then resume=(--resume); fi
    nice -n 10 "$hafuse" train "$root/models/recipes/$model.toml" --genotype "$root/models/$model.json" \
        --out "$out" --threads "${THREADS:-1}" --device "${DEVICE:-auto}" "${resume[@]}"
done
