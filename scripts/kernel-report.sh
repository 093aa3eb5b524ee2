#!/usr/bin/env bash
# What ptxas says of every kernel on every architecture, as Markdown: registers, shared memory,
# spills, and how much of a multiprocessor's threads can be resident (theoretical occupancy).
# Fails if a kernel spills on sm_80 or later, or if the convolution on tensor cores is not there.
#
#   scripts/kernel-report.sh [file]             default docs/kernel-report.md
#   scripts/kernel-report.sh --spills file      only what spills, which is no failure: for older toolkits and cards
#
# nvcc is looked for as build.rs does; HAFUSE_CUDA_ARCHS (e.g. "80;86") names the architectures.
set -euo pipefail
cd "$(dirname "$0")/.."
spills_only=
if [ "${1:-}" = --spills ]; then
  spills_only=yes
  shift
fi
report=${1:-docs/kernel-report.md}

find_nvcc() {
  if [ -n "${NVCC:-}" ]; then
    echo "$NVCC"
    return
  fi
  local folders=() folder python
  [ -n "${CUDA_HOME:-}" ] && folders+=("$CUDA_HOME/bin")
  [ -n "${CUDA_PATH:-}" ] && folders+=("$CUDA_PATH/bin")
  IFS=: read -ra path <<<"$PATH"
  folders+=("${path[@]}" /usr/local/cuda/bin)
  mapfile -t installed < <(printf '%s\n' /usr/local/cuda-*/bin | sort -rV)
  folders+=("${installed[@]}")
  for python in python3 python; do
    if folder=$("$python" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])" 2>/dev/null); then
      folders+=("$folder/nvidia/cu13/bin")
      break
    fi
  done
  for folder in "${folders[@]}"; do
    if [ -f "$folder/nvcc" ] && "$folder/nvcc" --version >/dev/null 2>&1; then
      echo "$folder/nvcc"
      return
    fi
  done
  echo "nvcc was not found (NVCC, CUDA_HOME, CUDA_PATH, PATH, /usr/local/cuda*, Python's nvidia/cu13)" >&2
  return 1
}

nvcc=$(find_nvcc)
toolkit=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/CUDA \1/p')
if [ -n "${HAFUSE_CUDA_ARCHS:-}" ]; then
  archs=$(tr ';,' '  ' <<<"$HAFUSE_CUDA_ARCHS")
else
  known=$("$nvcc" --list-gpu-code)
  archs=
  for arch in $(sed -n 's/^const ARCHS: &\[u32\] = &\[\(.*\)\];/\1/p' build.rs | tr ',' ' '); do
    grep -qx "sm_$arch" <<<"$known" && archs+=" $arch"
  done
fi
[ -n "${archs// /}" ] || { echo "no architectures to compile for" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-O3 -std=c++17 -Ikernels -Wno-deprecated-gpu-targets"
# As build.rs: the first from 80 on, else the last.
sorted=$(tr ' ' '\n' <<<"$archs" | grep . | sort -n)
ptx_arch=$(awk '$1 >= 80' <<<"$sorted" | head -n 1)
ptx_arch=${ptx_arch:-$(tail -n 1 <<<"$sorted")}
export nvcc work flags ptx_arch

# One compilation: of a module to PTX, which names each kernel's threads, or for an architecture.
compile() {
  local source=$1 arch=$2 stem
  stem=$(basename "$source" .cu)
  if [ "$arch" = ptx ]; then
    "$nvcc" $flags -ptx -arch="compute_$ptx_arch" -o "$work/$stem.ptx" "$source"
  else
    "$nvcc" $flags -cubin -arch="sm_$arch" -Xptxas -v -o /dev/null "$source" >"$work/$stem.$arch.log" 2>&1 ||
      { cat "$work/$stem.$arch.log" >&2; return 255; }
  fi
}
export -f compile
for source in kernels/*.cu; do
  for arch in ptx $archs; do
    echo "$source $arch"
  done
done | xargs -P "$(nproc)" -L 1 bash -c 'compile "$0" "$1"'

# Lines "module kernel threads <n>" and "module kernel <arch> <registers> <shared> <spilled>".
for source in kernels/*.cu; do
  stem=$(basename "$source" .cu)
  awk -v module="$stem" '
    / \.entry /  { name = $0; sub(/.*\.entry /, "", name); sub(/[( ].*/, "", name) }
    /^\.maxntid/ { gsub(/,/, ""); print module, name, "threads", $2 }' "$work/$stem.ptx"
  for arch in $archs; do
    awk -v module="$stem" -v arch="$arch" -v q="'" '
      /Compiling entry function/ { split($0, part, q); name = part[2]; shared = 0; spilled = 0 }
      /bytes spill stores/ {
        for (i = 1; i < NF; i++) if ($(i + 2) == "spill") spilled += $i
      }
      /Used [0-9]+ registers/ {
        for (i = 1; i < NF; i++) {
          if ($(i + 1) ~ /^registers/) registers = $i
          if ($(i + 2) ~ /^smem/) shared = $i
        }
        print module, name, arch, registers, shared, spilled
      }' "$work/$stem.$arch.log"
  done
done >"$work/facts"

mkdir -p "$(dirname "$report")"
if [ -n "$spills_only" ]; then
  {
    printf '# Registers spilled with %s\n\n' "$toolkit"
    printf 'Written by `scripts/kernel-report.sh --spills`: %s kernels compiled for%s; bytes of stores and loads that each spills.\n\n' \
      "$(awk '{ print $2 }' "$work/facts" | sort -u | wc -l)" "$(printf ' sm_%s' $archs)"
    if awk '$3 != "threads" && $6 > 0' "$work/facts" | grep -q .; then
      printf '| kernel | architecture | registers | bytes |\n|---|---|--:|--:|\n'
      awk '$3 != "threads" && $6 > 0 { printf "| %s | sm_%s | %d | %d |\n", $2, $3, $4, $6 }' "$work/facts"
    else
      printf 'None spills.\n'
    fi
  } >"$report"
  cat "$report"
  exit 0
fi
awk -v archs="$archs" -v toolkit="$toolkit" '
  # Of an architecture: warps and blocks that a multiprocessor holds, KiB of shared memory that they
  # share (NVIDIA, CUDA C++ Programming Guide, table of compute capabilities).
  function limits(arch, warps, blocks, memory) {
    max_warps[arch] = warps; max_blocks[arch] = blocks; max_shared[arch] = memory * 1024
  }
  function least(a, b) { return a < b ? a : b }
  function up(v, unit) { return int((v + unit - 1) / unit) * unit }
  # Registers are given to warps 256 at a time; from sm_80 on each block takes 1 KiB more.
  function occupancy(arch, threads, registers, shared,    warps, blocks) {
    if (!(arch in max_warps)) return "?"
    warps = up(threads, 32) / 32
    blocks = least(max_blocks[arch], int(max_warps[arch] / warps))
    blocks = least(blocks, int(int(65536 / up(registers * 32, 256)) / warps))
    shared = up(shared + (arch >= 80 ? 1024 : 0), 128)
    if (shared > 0) blocks = least(blocks, int(max_shared[arch] / shared))
    return sprintf("%d %%", 100 * blocks * warps / max_warps[arch] + 0.5)
  }
  BEGIN {
    limits(70, 64, 32, 96); limits(72, 64, 32, 96); limits(75, 32, 16, 64)
    limits(80, 64, 32, 164); limits(86, 48, 16, 100); limits(87, 48, 16, 164); limits(89, 48, 24, 100)
    limits(90, 64, 32, 228); limits(100, 64, 32, 228); limits(103, 64, 32, 228)
    limits(110, 48, 24, 228); limits(120, 48, 24, 100); limits(121, 48, 24, 100)
  }
  {
    key = $1 " " $2
    if (!(key in seen)) { seen[key] = 1; order[++kernels] = key }
    if ($3 == "threads") threads[key] = $4
    else {
      at = key " " $3
      registers[at] = $4; shared[at] = $5; spilled[at] = $6
      if ($5 > largest[key]) largest[key] = $5
    }
  }
  END {
    n = split(archs, list, " ")
    print "# Kernels on each architecture\n"
    print "Written by `scripts/kernel-report.sh` with " toolkit ": registers of a thread and theoretical occupancy"
    print "(resident warps of those that a multiprocessor can hold, in full blocks); bytes spilled, if any."
    for (k = 1; k <= kernels; k++) {
      key = order[k]; split(key, part, " ")
      if (part[1] != module) {
        module = part[1]
        printf "\n## %s.cu\n\n| kernel | threads | shared bytes |", module
        for (i = 1; i <= n; i++) printf " sm_%s |", list[i]
        printf "\n|---|--:|--:|"
        for (i = 1; i <= n; i++) printf "--:|"
        print ""
      }
      printf "| %s | %d | %d |", part[2], threads[key], largest[key]
      for (i = 1; i <= n; i++) {
        at = key " " list[i]
        printf " %d, %s", registers[at], occupancy(list[i], threads[key], registers[at], shared[at])
        if (spilled[at] > 0) printf ", **%d spilled**", spilled[at]
        printf " |"
      }
      print ""
    }
  }' "$work/facts" >"$report"
echo "$report: $(awk '{ print $2 }' "$work/facts" | sort -u | wc -l) kernels for$(printf ' sm_%s' $archs)"

status=0
if spills=$(awk '$3 != "threads" && $3 >= 80 && $6 > 0 { print "  " $2 " on sm_" $3 ": " $6 " bytes" } ' "$work/facts" | grep .); then
  printf 'kernels spill registers:\n%s\n' "$spills" >&2
  status=1
fi
if [ "$ptx_arch" -ge 80 ]; then
  for instruction in mma.sync cp.async; do
    if ! grep -qF "$instruction" "$work/conv_mma.ptx"; then
      echo "the PTX of conv_mma.cu has no $instruction" >&2
      status=1
    fi
  done
fi
exit $status
