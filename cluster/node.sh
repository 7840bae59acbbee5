#!/usr/bin/env bash
# Keeps at most one Ray node of this account on this host, and ends it by its own pid.
# Knows nothing of clouds, tokens or other people's Ray on the same host.
#
#   node.sh start ray start --block ...    start it, unless it runs already; wait until it is up
#   node.sh stop                           end what `start` began, and nothing else
#   node.sh log                            show what it printed
set -euo pipefail

state="${RAYMLOPS_NODE_DIR:-$HOME/.raymlops-node}"
wait_s="${RAYMLOPS_NODE_WAIT_S:-120}"

# The kernel drops the lock when its holder ends, however it ends: a stale pid is never trusted.
alive() { [ -e "$state/node.lock" ] && ! flock --nonblock "$state/node.lock" true; }

start() {
  mkdir -p "$state"
  exec 9>>"$state/node.lock"
  if ! flock --nonblock 9; then
    echo "node.sh: runs already, pid $(cat "$state/node.pid"); nothing was started"
    return 0
  fi
  : >"$state/node.log"
  # The child inherits descriptor 9, and with it the lock; a session of its own outlives the ssh connection.
  # shellcheck disable=SC2016
  setsid bash -c 'echo $$ >"$0"; exec "$@"' "$state/node.pid" "$@" </dev/null >"$state/node.log" 2>&1 &
  exec 9>&-
  wait_until_up
}

wait_until_up() {
  for _ in $(seq $((wait_s * 5))); do
    # The line that `ray start` prints on a head and on a worker alike.
    if grep -q "Ray runtime started" "$state/node.log"; then return 0; fi
    if ! alive; then break; fi
    sleep 0.2
  done
  echo "node.sh: not up after at most $wait_s s; its last lines:" >&2
  tail -n 40 "$state/node.log" >&2
  return 1
}

stop() {
  if ! alive; then
    echo "node.sh: nothing of ours runs here"
    return 0
  fi
  kill -TERM "$(cat "$state/node.pid")"
  for _ in $(seq $((wait_s * 5))); do
    if ! alive; then return 0; fi
    sleep 0.2
  done
  echo "node.sh: pid $(cat "$state/node.pid") still runs after $wait_s s" >&2
  return 1
}

case "${1:-}" in
  start) shift; start "$@" ;;
  stop) stop ;;
  log) cat "$state/node.log" ;;
  *) echo "usage: node.sh start COMMAND... | stop | log" >&2; exit 2 ;;
esac
