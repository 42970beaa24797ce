#!/bin/sh
# A first look: a two-node task through the embedded control plane, in a home folder of its own that is removed at
# the end. Run it from the top of the repository with `make demo`.
set -eu
STIX_HOME=$(mktemp -d "${TMPDIR:-/tmp}/stix-demo.XXXXXX")
export STIX_HOME

clean_up() {
    stix down -y demo >/dev/null 2>&1 || true
    stix api stop >/dev/null 2>&1 || true
    rm -rf "$STIX_HOME"
}
trap clean_up EXIT

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

cat docs/examples/hello.yaml
show stix launch -y -c demo docs/examples/hello.yaml
show stix status
show stix exec demo 'echo "Once more, on rank $STIX_NODE_RANK."'
show stix queue demo
show stix down -y demo
show stix api stop
