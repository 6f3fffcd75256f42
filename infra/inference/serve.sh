#!/bin/sh
# Runs a policy server with the weights that restmcts.adapters.models.served_weights names, and starts it anew when it names others:
#
#     serve.sh POINTER COMMAND
#
# POINTER is a file of two lines, name and path; COMMAND is a line of shell that becomes the server (exec …) and finds them as
# $MODEL_NAME and $MODEL_PATH. With FOLLOW=0 the server is left alone once it runs: something else tells it to reload.
# A server that ends by itself ends this script with its status; whoever started the script starts it again.
set -u
pointer=$1
command=$2
grace=${GRACE_SECONDS:-60}
server=

stop() {
    [ -n "$server" ] || return 0
    kill -TERM "$server" 2>/dev/null
    waited=0
    while kill -0 "$server" 2>/dev/null; do
        if [ "$waited" -ge "$grace" ]; then kill -KILL "$server" 2>/dev/null; break; fi
        sleep 1
        waited=$((waited + 1))
    done
    wait "$server" 2>/dev/null
    server=
}
trap 'stop; exit 143' TERM INT

while :; do
    while [ ! -s "$pointer" ]; do
        sleep 1 &
        wait $!
    done
    named=$(cat "$pointer")
    MODEL_NAME=$(printf '%s\n' "$named" | sed -n 1p)
    MODEL_PATH=$(printf '%s\n' "$named" | sed -n 2p)
    export MODEL_NAME MODEL_PATH
    echo "serve: starting with $MODEL_NAME from $MODEL_PATH"
    sh -c "$command" &
    server=$!
    while kill -0 "$server" 2>/dev/null; do
        sleep 1 &
        wait $!
        if [ "${FOLLOW:-1}" = 1 ] && [ "$(cat "$pointer")" != "$named" ]; then
            echo "serve: other weights are named; stopping $MODEL_NAME"
            stop
            continue 2
        fi
    done
    wait "$server"
    status=$?
    echo "serve: the server ended with status $status" >&2
    exit "$status"
done
