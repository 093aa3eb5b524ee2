#!/usr/bin/env bash
# Proves and times hafuse on a machine with an NVIDIA card. Two steps, on one machine or on two:
#
#   scripts/gpu-check.sh pack DIR [--arch 90]     where Rust and nvcc are: builds for the cards named (all without --arch; as
#                                                 in HAFUSE_CUDA_ARCHS), collects all that is needed: at most 45 MiB
#   DIR/scripts/gpu-check.sh run OUT [--minutes 9] [STEP...]
#                                                 where the card and Python are: smoke test, tests, times of operators and
#                                                 networks, PyTorch in turns, profiles, training, search, sanitizers
#   DIR/scripts/gpu-check.sh run OUT --train MINUTES --data DATA [WHAT...]
#                                                 trains the built-in models (models/recipes) and searches (models/search.toml)
#                                                 instead; WHAT: ivif-fast, ivif, mif, search; DATA holds the recipes' folders
#
# `run` writes report.md, report.json and log.tgz into OUT after every command, so that a run that is cut off leaves all that
# has ended, and exits with 1 if a step failed. `--train` writes runs.tgz too; unpacked by a later call when it lies beside DIR/bin,
# it is gone on with. What is not there (nvidia-smi, PyTorch, ncu, compute-sanitizer) is left out, and said. PYTHON names another
# python3; `run --help` lists what CHECK_SIZES=620x448 and the like make smaller.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
command=${1:-}
case $command in
pack | run)
    shift
    python=${PYTHON:-python3}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))'; then
        echo "$python is not Python 3.9 or newer; name another one in PYTHON" >&2
        exit 2
    fi
    exec "$python" "$here/gpu/$command.py" "$@"
    ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
