#!/bin/sh
# Stix: fetches this machine's agent, checks its hash, and keeps it running, after every boot.
set -u
umask 077
export cloud=@CLOUD@ api=@API@ sha=@SHA@ join=@JOIN@ seconds=@SECONDS@
export root="${STIX_ROOT:-/var/lib/stix}" HOME="${HOME:-/root}"
# A container, or a test's machine: there is nothing to power off and nothing that starts us at boot.
guest="${STIX_MACHINE_ID:-}${STIX_METADATA_URL:-}"
export guest
say() { echo "stix: $*"; }
end() {
  say "$1"
  [ -n "$guest" ] || shutdown -h now || poweroff -f
  exit "$2"
}
mkdir -p "$root" && cd "$root" || end "cannot write to $root" 73
if [ -z "$guest" ] && [ -d /run/systemd/system ] && [ "${1:-}" != run ]; then
  cp "$0" boot.sh
  cat >/etc/systemd/system/stix-agent.service <<END
[Unit]
After=network-online.target
Wants=network-online.target
[Service]
Environment=HOME=$HOME
ExecStart=/bin/sh $root/boot.sh run
KillMode=process
[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload && systemctl enable --now --no-block stix-agent && exit 0
fi
find_python() {
  for py in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8; do
    command -v $py >/dev/null 2>&1 && $py -c 'import sys; sys.exit(sys.version_info < (3, 8))' && return
  done
  return 1
}
if ! find_python; then
  say "installing Python"
  export DEBIAN_FRONTEND=noninteractive
  lock="-qy -o DPkg::Lock::Timeout=300"
  {
    apt-get $lock update && apt-get $lock install python3 ca-certificates ||
      dnf -qy install python3 || yum -qy install python3 || apk add -q python3 || zypper -qn in python3
  } >install.log 2>&1
  find_python || end "no Python 3.8 or newer, and none could be installed: see $root/install.log" 70
fi
$py - <<'END' || end "the agent could not be fetched" 69
import hashlib, json, os, socket, time
import urllib.request as web
env = os.environ
base = env.get("STIX_METADATA_URL") or "http://169.254.169.254"
direct = web.build_opener(web.ProxyHandler({}))
until = time.time() + int(env["seconds"])
def ask(path, method="GET", **headers):
    headers = {name.replace("_", "-"): headers[name] for name in headers}
    return direct.open(web.Request(base + path, None, headers, method=method), timeout=5).read().decode()
def who():
    if env.get("STIX_MACHINE_ID"):
        return env["STIX_MACHINE_ID"], env.get("STIX_ADDRESS")
@WHO@
def fetch():
    data = web.urlopen(env["api"] + "/agent/v1/archive/" + env["sha"], timeout=60).read()
    if hashlib.sha256(data).hexdigest() != env["sha"]:
        raise ValueError("wrong hash")
    return data
def insist(work):
    wait = 1
    while True:
        try:
            return work()
        except Exception as error:
            print(work.__name__, error, flush=True)
            if time.time() + wait > until:
                raise SystemExit(1)
            time.sleep(wait)
            wait = min(wait * 2, 30)
id, address = insist(who)
agent = insist(fetch)
open("agent.pyz", "wb").write(agent)
json.dump({"api_url": env["api"], "join_token": env["join"], "machine_id": id, "cloud": env["cloud"],
    "address": address or socket.gethostbyname(socket.gethostname()), "metadata_url": base,
    "state_dir": env["root"] + "/agent", "home_dir": env["HOME"], "allow_absolute_mounts": True,
    "watch_logins": True, "give_up_seconds": int(env["seconds"]),
    "shutdown_command": [] if env["guest"] else ["shutdown", "-h", "now"]}, open("config.json", "w"))
END
unset join
while :; do
  $py -I agent.pyz agent --config config.json &
  trap "kill -TERM $!" TERM INT
  wait $!
  code=$?
  while kill -0 $! 2>/dev/null; do wait $!; code=$?; done
  [ $code -ne 0 ] || exit 0
  [ $code -lt 64 ] || [ $code -gt 128 ] || end "the agent ended for good, with code $code" $code
  sleep 1
done
