#!/bin/bash
# OpenAI's own Python client against `flexq serve`.
#   openai_client.sh FLEXQ_TOOL MODEL VENV
# The package is taken from where Python finds it, else installed into the folder VENV; without a
# network that fails, and the test is skipped.
set -uo pipefail
. "$(dirname "$0")/serving_process.sh"
python=python3
if ! python3 -c 'import openai' 2>/dev/null; then
  python=$3/bin/python
  if ! "$python" -c 'import openai' 2>/dev/null; then
    { python3 -m venv "$3" && timeout 120 "$3/bin/pip" install -q --retries 1 --timeout 10 openai; } ||
      { echo "SKIPPED: the Python package openai is not here and cannot be installed"; exit 77; }
  fi
fi
export FLEXQ_API_KEY=sk-test
start_server "$1" "$2" --chat-template vicuna --model-name tiny
"$python" "$(dirname "$0")/openai_client.py" "$address"
