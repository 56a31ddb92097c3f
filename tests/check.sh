#!/usr/bin/env bash
# The gate for style and types, the same for people and CI. Every tool has its say before this fails.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PATH="$PWD/.scalemesh/tests/venv/bin:$PATH"

status=0
gate() {
  local output
  if output=$("$@" 2>&1); then
    printf '  ok      %s\n' "$*"
  else
    printf '  failed  %s\n%s\n' "$*" "$output"
    status=1
  fi
}

gate ruff format --check
gate ruff check
gate mypy
gate lint-imports
gate shellcheck install.sh tests/run.sh tests/check.sh tests/lock.sh tests/rigs/*.sh tests/rigs/kubernetes/*.sh .ci/run
gate hadolint builder/Dockerfile
exit "$status"
