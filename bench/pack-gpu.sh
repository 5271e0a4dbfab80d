#!/usr/bin/env bash
# Makes a folder of at most 60 MB that tests and times the webgpu device on a machine with a GPU and
# no network: Node, Dawn, the Vulkan loader, the project. Linux x86-64, on Debian or Ubuntu.
#
#   bench/pack-gpu.sh FOLDER           then, on the other machine: FOLDER/run.sh [--quick …]
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -ne 1 ] || [ "${1:0:1}" = - ]; then
  sed -n '2,6s/^# \{0,1\}//p' "$0"
  exit 2
fi
out=$1
limit=60000000
if [ -e "$out" ]; then
  echo "pack-gpu: $out is there already: remove it, or name another folder" >&2
  exit 1
fi

# The runtime that CI installed, else the one on the PATH if it is new enough to run TypeScript.
node=.runtimes/node_modules/node/bin/node
[ -x "$node" ] || node=$(command -v node)
major=$("$node" -p 'process.versions.node.split(".")[0]')
if [ "$major" -lt 24 ]; then
  echo "pack-gpu: $node is Node $major; 24 or later is needed (.ci/run installs it)" >&2
  exit 1
fi
dawn=node_modules/webgpu/dist/linux-x64.dawn.node
[ -e "$dawn" ] || { echo "pack-gpu: $dawn is missing: npm ci" >&2; exit 1; }

mkdir -p "$out/project/node_modules/webgpu/dist"
xz -T0 -9 -c "$(readlink -f "$node")" > "$out/node.xz"
xz -T0 -9 -c "$dawn" > "$out/dawn.node.xz"
cp node_modules/webgpu/{index.js,package.json} "$out/project/node_modules/webgpu/"
cp -r node_modules/zod node_modules/fast-check node_modules/pure-rand "$out/project/node_modules/"
find "$out/project/node_modules" \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.cts' \) -delete
git ls-files tensor model eval rl tests bench scripts package.json | tar -c -T - | tar -x -C "$out/project"
rm -rf "$out/project/bench/rivals"

# The Vulkan loader: the GPU's own driver is the other machine's.
loader=$(ldconfig -p | awk '/libvulkan\.so\.1 .*x86-64/ { print $NF; exit }')
[ -n "$loader" ] || { echo "pack-gpu: no libvulkan.so.1: apt-get install libvulkan1" >&2; exit 1; }
mkdir -p "$out/lib"
cp "$(readlink -f "$loader")" "$out/lib/libvulkan.so.1"

cat > "$out/run.sh" << 'RUN'
#!/usr/bin/env bash
# Tests of the webgpu device on this machine's GPU, then bench/gpu.ts with the arguments given.
set -uo pipefail
cd "$(dirname "$0")"
[ -x node ] || { xz -dk node.xz && chmod +x node; }
dawn=project/node_modules/webgpu/dist/linux-x64.dawn.node
[ -e "$dawn" ] || xz -dkc dawn.node.xz > "$dawn"
export LD_LIBRARY_PATH="$PWD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" XDG_RUNTIME_DIR=/tmp
# Without a driver's description of its own, NVIDIA's Vulkan driver is described here.
if [ -z "${VK_ICD_FILENAMES:-}" ] && ! ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json > /dev/null 2>&1; then
  echo '{ "file_format_version": "1.0.0", "ICD": { "library_path": "libGLX_nvidia.so.0", "api_version": "1.3.0" } }' > nvidia_icd.json
  export VK_ICD_FILENAMES="$PWD/nvidia_icd.json"
fi
cd project
wrong=0
for file in ops tiles model device; do
  echo "tests/webgpu/$file.gpu.ts"
  ../node --test --test-reporter=tap "tests/webgpu/$file.gpu.ts" > "../$file.tap" 2>&1 || wrong=1
  grep -E '^# webgpu: |^# (pass|fail) |SKIPPED' "../$file.tap"
  grep -E '^ *not ok' "../$file.tap"
done
../node bench/gpu.ts --json ../gpu.json "$@" || wrong=1
exit $wrong
RUN
chmod +x "$out/run.sh"

size=$(du -sb "$out" | cut -f1)
echo "$out: $((size / 1000000)) MB"
if [ "$size" -gt $limit ]; then
  echo "pack-gpu: more than $((limit / 1000000)) MB" >&2
  exit 1
fi
