#!/usr/bin/env bash
# Call sessions with kcat and jq: read all there is, print the last revision of each as a line of JSON.
#   bash call_sessions.sh 127.0.0.1:9092 threecx.call-sessions
set -euo pipefail

# One event of each session is kept at a time, not the whole topic.
kcat -C -q -b "$1" -t "$2" -o beginning -e -X isolation.level=read_committed -f '%s\n' |
  jq -nc '
    reduce (inputs | select(.type | IN("call.started", "call.ended", "call.end_missed", "call.corrected"))) as $event
      ({}; if $event.revision > (.[$event.session_id].revision // 0) then .[$event.session_id] = $event.session else . end)
    | .[]'
