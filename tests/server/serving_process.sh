# For scripts: start_server FLEXQ_TOOL ARGUMENTS... runs `flexq serve` on a free port, puts its address
# into $address and ends it with the script.
start_server() {
  local tool=$1
  shift
  log=$(mktemp)
  "$tool" serve "$@" --port 0 --json >"$log" &
  server=$!
  trap 'kill $server 2>/dev/null; wait $server; rm -f "$log"' EXIT
  until address=$(sed -n 's/.*"address":"\([^"]*\)".*/\1/p' "$log") && [ -n "$address" ]; do
    kill -0 $server 2>/dev/null || { echo "FAILED: the server did not start"; exit 1; }
    sleep 0.05
  done
}
