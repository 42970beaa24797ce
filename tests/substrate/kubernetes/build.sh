#!/bin/sh
# Builds a real Kubernetes 1.20.2 control plane out of Debian's own source package, once, into a cache outside the
# repository, and prints the folder of its binaries. Debian's Go and etcd are unpacked into a scratch folder: nothing
# is installed, and root is not needed. Needs apt with Debian bookworm among its sources, dpkg-dev, make, gcc, and
# about 3 GB while it builds. A second run only prints the folder.
set -eu

VERSION=1.20.2
SUITE=bookworm
GO=1.19
KEYS=/usr/share/keyrings/debian-archive-keyring.gpg
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/stix-tests/kubernetes-$VERSION"
BUILDING="$CACHE.building"
SERVERS="kube-apiserver kube-scheduler kube-controller-manager"

if [ -e "$CACHE/complete" ]; then
  echo "$CACHE/bin"
  exit 0
fi

say() { echo "kubernetes $VERSION: $*" >&2; }
fail() { say "$*"; exit 2; }

[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || fail "builds on Debian for amd64 only"
for tool in apt-get dpkg-source make gcc perl; do
  command -v "$tool" >/dev/null || fail "needs $tool: apt-get install dpkg-dev make gcc perl"
done

# An interrupted build starts again from what was downloaded; two builds at once would spoil each other.
mkdir -p "$BUILDING/apt/lists/partial" "$BUILDING/apt/cache/archives/partial" "$BUILDING/packages"
exec 9>"$BUILDING/lock"
flock -n 9 || fail "another build runs in $BUILDING"
BEGAN=$(date +%s)

# apt with lists, cache and sources of its own. The sources are the machine's, with their source packages added.
apt_here() {
  apt-get -qq -o APT::Sandbox::User= -o "Dir::State::lists=$BUILDING/apt/lists" -o "Dir::Cache=$BUILDING/apt/cache" \
    -o Debug::NoLocking=1 "$@"
}
say "reading the package lists"
apt_here update || say "some sources did not answer; going on with the others"
apt_here indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
  'Created-By: Packages' 'Component: main' 'Origin: Debian' "Release: $SUITE" | sort -u |
  while read -r place; do
    echo "deb [signed-by=$KEYS] $place"
    echo "deb-src [signed-by=$KEYS] $place"
  done >"$BUILDING/apt/sources.list"
[ -s "$BUILDING/apt/sources.list" ] || fail "no apt source of this machine carries Debian $SUITE main"
apt_private() {
  apt_here -o "Dir::Etc::sourcelist=$BUILDING/apt/sources.list" -o Dir::Etc::sourceparts=- "$@"
}
apt_private update
cd "$BUILDING/packages"
say "fetching the source, Go $GO and etcd"
apt_private source --download-only kubernetes
apt_private download "golang-$GO-go" "golang-$GO-src" etcd-server rsync libpopt0 libxxhash0

ROOT="$BUILDING/root"
SOURCE="$BUILDING/source"
rm -rf "$ROOT" "$SOURCE"
mkdir -p "$ROOT"
for package in ./*.deb; do dpkg -x "$package" "$ROOT"; done
dpkg-source --no-check -x kubernetes_*"$VERSION"*.dsc "$SOURCE" >"$BUILDING/unpack.log"

export GOROOT="$ROOT/usr/lib/go-$GO" GOPATH="$BUILDING/go" GOCACHE="$BUILDING/go-cache" GOPROXY=off CGO_ENABLED=0
export KUBE_GIT_VERSION="v$VERSION" KUBE_GIT_TREE_STATE=archive KUBE_GIT_COMMIT=debian
export LD_LIBRARY_PATH="$ROOT/usr/lib/x86_64-linux-gnu" PATH="$GOROOT/bin:$ROOT/usr/bin:$PATH"
# Debian splits Go's sources from its tools; within a scratch root the links between them point nowhere.
for part in src test api misc pkg; do
  [ -e "$GOROOT/$part" ] && [ -e "$GOROOT/$part/." ] && continue
  if [ -d "$ROOT/usr/share/go-$GO/$part" ]; then ln -sfn "$ROOT/usr/share/go-$GO/$part" "$GOROOT/$part"; fi
done
mkdir -p "$GOPATH/src/k8s.io"
ln -sfn "$SOURCE" "$GOPATH/src/k8s.io/kubernetes"
cd "$GOPATH/src/k8s.io/kubernetes"
say "building $SERVERS (7 minutes on two free cores); its log is $BUILDING/build.log"
targets=""
for server in $SERVERS; do targets="$targets cmd/$server"; done
nice -n 15 make WHAT="${targets# }" >"$BUILDING/build.log" 2>&1 || { tail -n 30 "$BUILDING/build.log" >&2; exit 1; }

mkdir -p "$CACHE/bin"
for server in $SERVERS; do install -m 755 "_output/local/bin/linux/amd64/$server" "$CACHE/bin/"; done
install -m 755 "$ROOT/usr/bin/etcd" "$CACHE/bin/"
install -m 644 api/openapi-spec/swagger.json "$CACHE/"
"$CACHE/bin/kube-apiserver" --version | grep -q "v$VERSION" || fail "the built kube-apiserver is not $VERSION"
touch "$CACHE/complete"
chmod -R u+w "$BUILDING"
rm -rf "$BUILDING"
say "built in $(($(date +%s) - BEGAN)) s"
echo "$CACHE/bin"
