#!/usr/bin/env bash
# Posts one order from standard input to a relay, and tries again while that makes sense.
#   RELAY=http://127.0.0.1:8080 RELAY_KEY=brk_... send.sh < order.json
# Exit codes: 0 accepted, 1 the order or the key must be mended, 75 not now: keep it, send it later.
set -euo pipefail

relay=${RELAY:-http://127.0.0.1:8080}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/order"

# The key travels in a file: arguments can be seen by every user of the machine.
{
  echo 'Content-Type: application/json'
  [[ -z ${RELAY_KEY:-} ]] || echo "Authorization: Bearer $RELAY_KEY"
} > "$folder/head"

for pause in 1 2 4 8 0; do
  status=$(curl --silent --max-time 30 --header "@$folder/head" --data-binary "@$folder/order" \
    --dump-header "$folder/answer-head" --output "$folder/answer" --write-out '%{http_code}' \
    "$relay/v1/beacon/conversion") || status=000
  case $status in
    202)
      exit 0 ;;
    408 | 429 | 500 | 502 | 503 | 504 | 000)
      wait=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]\{1,\}\).*/\1/p' "$folder/answer-head" 2>/dev/null || true)
      [[ $pause == 0 ]] || sleep "${wait:-$pause}" ;;
    *)
      echo "refused with $status:" >&2
      cat "$folder/answer" >&2
      exit 1 ;;
  esac
done
exit 75
