#!/usr/bin/env bash
# WebSocket programs that are not rxplus's talk to its server and to its client (`peer/main.rs`): Node's `ws`, RxJS, Python's
# `websockets`, Chromium, and Autobahn's suite; in the resumable mode `clients/js`, and two peers in `resume`; and a NATS broker.
#
#   bash tests/interop/run.sh                    # all parts
#   bash tests/interop/run.sh ws_client browser  # these
#   RXPLUS_INTEROP=skip bash tests/interop/run.sh
#
# `install.sh` installs what is missing. Fails if a check does, or if something cannot be installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/interop

ALL=(ws_client rxjs browser dashboard websockets_client ws_server websockets_server autobahn_server autobahn_client
  resume_script resume_rxplus resume_others resume_browser resume_demo bus_broker bus_cluster
  ws_client:mounted rxjs:mounted browser:mounted websockets_client:mounted autobahn_server:mounted
  ws_client:compressed rxjs:compressed browser:compressed websockets_client:compressed ws_server:compressed
  websockets_server:compressed autobahn_server:compressed autobahn_client:compressed)

if [ "${RXPLUS_INTEROP:-run}" = skip ]; then
  echo 'interop: skipped, since RXPLUS_INTEROP=skip is set; nothing was checked against other implementations'
  exit 0
fi

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
place=$target/interop
source $here/install.sh

# Each part, and the seconds after which it counts as hung: about ten times what it takes. With the suffix `:mounted` the server is
# mounted in axum, with `:compressed` both sides compress.
run_part() {
  if [[ $1 = *:* ]]; then
    case ${1#*:} in
      mounted) INTEROP_MOUNTED=1 run_part "${1%%:*}" ;;
      compressed) INTEROP_COMPRESSED=1 run_part "${1%%:*}" ;;
      *) echo 'no such suffix; there are :mounted and :compressed' && return 1 ;;
    esac
    return
  fi
  case $1 in
    browser | dashboard) timeout 120 node $here/javascript/"$1".mjs ;;
    ws_client | rxjs | ws_server) timeout 60 node $here/javascript/"$1".mjs ;;
    websockets_client | websockets_server) timeout 60 "$place/python/bin/python" -B $here/python/"$1".py ;;
    resume_*) resume "${1#resume_}" ;;
    bus_broker) timeout 500 cargo test --quiet --all-features --test bus -- --ignored ;;
    bus_cluster) timeout 150 node $here/bus/cluster.mjs "$target/debug/examples/cluster" ;;
    autobahn_server | autobahn_client)
      local seconds=${INTEROP_COMPRESSED:+1500}
      timeout "${seconds:-150}" "$place/python/bin/python" -B $here/python/autobahn.py "${1#autobahn_}"
      ;;
    *) echo "no such part; there are ${ALL[*]}" && return 1 ;;
  esac
}

# The resumable mode: `clients/js` against a server that the test plays, then each client and server against each other.
resume() {
  local rxplus=("$INTEROP_PEER" resumable) javascript=(node $here/resume/server.mjs)
  local python=("$place/python/bin/python" -B $here/resume/peer.py)
  local node='timeout 150 node'
  case $1 in
    script) $node $here/resume/scripted.mjs ;;
    rxplus)
      $node $here/resume/strict.mjs "${rxplus[@]}" &&
        $node $here/resume/client.mjs "${rxplus[@]}" &&
        $node $here/resume/clients.mjs "${rxplus[@]}" -- "${python[@]}" client &&
        $node $here/resume/clients.mjs "${rxplus[@]}" -- "$INTEROP_PEER" sender &&
        $node $here/resume/clients.mjs "${javascript[@]}" -- "$INTEROP_PEER" sender &&
        $node $here/resume/clients.mjs "${python[@]}" server -- "$INTEROP_PEER" sender
      ;;
    others)
      $node $here/resume/strict.mjs "${javascript[@]}" &&
        $node $here/resume/strict.mjs "${python[@]}" server &&
        $node $here/resume/client.mjs "${javascript[@]}" &&
        $node $here/resume/client.mjs "${python[@]}" server &&
        $node $here/resume/clients.mjs "${javascript[@]}" -- "${python[@]}" client
      ;;
    browser) $node $here/resume/browser.mjs "${rxplus[@]}" ;;
    demo) $node $here/resume/demo.mjs "$target/debug/examples/resumable" ;;
    *) echo "no such part: resume_$1" && return 1 ;;
  esac
}

cargo build --quiet --all-features --example interop_peer --example dashboard --example resumable --example cluster
export INTEROP_PEER=$target/debug/examples/interop_peer INTEROP_DASHBOARD=$target/debug/examples/dashboard
export INTEROP_NODE=$place/node INTEROP_BROWSER NATS_SERVER=$place/python/bin/nats-server
install_all
echo "interop: $(versions)"

failed=()
for part in "${@:-${ALL[@]}}"; do
  printf '\n-- %s\n' "$part"
  begin=$SECONDS
  status=0
  run_part "$part" || status=$?
  [ $status = 124 ] && echo "$part took too long and was ended"
  [ $status = 0 ] || failed+=("$part")
  echo "-- $part: $((SECONDS - begin)) s"
done

if [ ${#failed[@]} -gt 0 ]; then
  printf '\ninterop: FAILED in %s, after %s s\n' "${failed[*]}" $SECONDS
  exit 1
fi
printf '\ninterop: no check failed, in %s s\n' $SECONDS
