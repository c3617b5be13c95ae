#!/bin/bash
# curl against `flexq serve`: what README.md and DEPLOYMENT.md show, keep-alive, a body for which curl
# asks with Expect: 100-continue, and a stream that it cuts off.
#   curl_client.sh FLEXQ_TOOL MODEL
set -uo pipefail
. "$(dirname "$0")/serving_process.sh"
command -v curl >/dev/null || { echo "SKIPPED: no curl on this machine"; exit 77; }
failed=0
fail() { echo "FAILED: $*"; failed=1; }
expect() { [[ $2 == *"$1"* ]] || fail "expected $1 in: $2"; }

start_server "$1" "$2" --chat-template vicuna --model-name tiny
json=(-H 'Content-Type: application/json')

expect '{"status":"ok"}' "$(curl -sS "$address/health")"
expect '"id":"tiny"' "$(curl -sS "$address/v1/models")"
body='{"prompt": "Once upon a time", "max_tokens": 32, "stream": true}'
expect 'data: [DONE]' "$(curl -sSN "$address/v1/completions" "${json[@]}" -d "$body")"
body='{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}'
expect '"object":"chat.completion"' "$(curl -sS "$address/v1/chat/completions" "${json[@]}" -d "$body")"
expect '415' "$(curl -sS -o /dev/null -w '%{http_code}' "$address/v1/completions" -d "$body")"

# Two requests, one connection.
connects=$(curl -sS -o /dev/null -o /dev/null -w '%{num_connects}' "$address/health" "$address/health")
[ "$connects" = 10 ] || fail "expected one connection for two requests, found $connects"

# Over 1 MB: curl waits for 100 Continue.
body="{\"prompt\": \"x\", \"max_tokens\": 1, \"metadata\": \"$(head -c 2000000 /dev/zero | tr '\0' x)\"}"
code=$(curl -sS -o /dev/null -w '%{http_code}' "${json[@]}" --data-binary @- "$address/v1/completions" <<<"$body")
[ "$code" = 200 ] || fail "a body of 2 MB: expected 200, found $code"

# curl goes after the first bytes.
body='{"prompt": "x", "max_tokens": 500, "ignore_eos": true, "stream": true, "n": 8}'
curl -sN "$address/v1/completions" "${json[@]}" -d "$body" | head -c 100 >/dev/null
for _ in $(seq 100); do
  used=$(curl -sS "$address/metrics" | sed -n 's/^flexq_kv_pages_used //p')
  [ "$used" = 0 ] && break
  sleep 0.1
done
[ "$used" = 0 ] || fail "expected no page in use, found $used"

kill -TERM $server
wait $server || fail "expected exit code 0 after SIGTERM, found $?"
exit "$failed"
