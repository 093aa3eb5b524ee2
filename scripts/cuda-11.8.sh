#!/usr/bin/env bash
# The oldest toolkit that is tried, and a real driver, without touching the system: CUDA 11.8 and libcuda 535 of Debian 12's
# non-free component, headers of the same release from PyPI. About 100 MB; Debian 12 on x86-64, Python, network.
#
#   scripts/cuda-11.8.sh DIR      DIR/bin/nvcc, DIR/driver/libcuda.so.1
#
# Exit code 3 where it cannot be had (no Debian 12, no such component, no network), and it says why.
set -euo pipefail
if [ $# -ne 1 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
mkdir -p "$1"
dir=$(cd "$1" && pwd)
lack() {
    echo "CUDA 11.8 cannot be had here: $1" >&2
    exit 3
}
grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release || lack "it is fetched on Debian 12 only"
[ "$(uname -m)" = x86_64 ] || lack "it is fetched for x86-64 only"

mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/deb"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main contrib non-free" \
    >"$dir/apt/sources.list"
apt=(-q -o "Dir::Etc::SourceList=$dir/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$dir/apt/lists" -o "Dir::Cache=$dir/apt/cache" -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update >"$dir/apt/log" 2>&1 || lack "no package lists ($(tail -n 1 "$dir/apt/log"))"
(cd "$dir/deb" && apt-get "${apt[@]}" download nvidia-cuda-toolkit libcuda1 g++-11 gcc-11 gcc-11-base cpp-11 \
    libstdc++-11-dev libgcc-11-dev) >"$dir/apt/log" 2>&1 || lack "no packages ($(tail -n 1 "$dir/apt/log"))"
for deb in "$dir"/deb/*.deb; do
    dpkg-deb -x "$deb" "$dir/debian"
done
python3 -m venv "$dir/python"
"$dir/python/bin/pip" install -q nvidia-cuda-runtime-cu11==11.8.89 nvidia-cuda-nvcc-cu11==11.8.89 ||
    lack "no headers from PyPI"
headers=("$dir"/python/lib/python3*/site-packages/nvidia)

# nvcc finds its parts by its own place, headers and compiler by its profile.
mkdir -p "$dir/bin" "$dir/include" "$dir/driver"
toolkit=$dir/debian/usr/lib/nvidia-cuda-toolkit
for part in nvcc ptxas fatbinary cudafe++ nvlink bin2c cuobjdump; do
    from=$toolkit/bin/$part
    [ -x "$from" ] || from=$dir/debian/usr/bin/$part
    cp "$from" "$dir/bin/$part"
done
cp "$toolkit/bin/cicc" "$dir/bin/cicc"
cp -r "$toolkit/libdevice" "$dir/libdevice"
cp -r "${headers[0]}"/cuda_runtime/include/. "${headers[0]}"/cuda_nvcc/include/. "$dir/include/"
cat >"$dir/bin/nvcc.profile" <<PROFILE
CICC_PATH = $dir/bin
NVVMIR_LIBRARY_DIR = $dir/libdevice
PATH += $dir/bin:
INCLUDES += "-I$dir/include"
PROFILE
# The compiler of that time, from its own folder.
cat >"$dir/bin/g++-11" <<COMPILER
#!/bin/sh
exec "$dir/debian/usr/bin/x86_64-linux-gnu-g++-11" -B"$dir/debian/usr/lib/gcc/x86_64-linux-gnu/11" "\$@"
COMPILER
chmod +x "$dir/bin/g++-11"
cp -P "$dir"/debian/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so* "$dir/driver/"
"$dir/bin/nvcc" --version | grep release
