#!/usr/bin/env bash
# The programs that some tests use beside Python's packages. As root on Debian or Ubuntu the missing ones are
# installed; elsewhere, and where that fails, this says which tests will be skipped. It never fails itself.
set -uo pipefail

# how to see that it works | Debian's package | the tests that use it
wanted=(
  "chromium --version|chromium|the report and the web page in a browser"
  "java -version|default-jre-headless|METEOR"
  "ffmpeg -version|ffmpeg|films that OpenCV cannot write: H.264, rotated, of variable frame rate"
  "aws --version|awscli|object storage, as its users fill it"
  "ceph --version|ceph-common|object storage: a Ceph cluster of our own, with its S3 gateway"
  "ceph-mon --version|ceph-mon|object storage"
  "ceph-osd --version|ceph-osd|object storage"
  "radosgw --version|radosgw|object storage"
  "podman --version|podman|containers: the images, and tasks that run in them"
  "conmon --version|conmon|containers"
  "runc --version|runc|containers"
  "/usr/lib/podman/netavark --version|netavark|containers"
)
log=build/apt.log

works() { $1 > /dev/null 2>&1 < /dev/null; }

quietly() { DEBIAN_FRONTEND=noninteractive "$@" >> "$log" 2>&1 < /dev/null; }

missing=()
for line in "${wanted[@]}"; do
  works "${line%%|*}" || missing+=("$line")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

may_install=""
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  may_install=yes
  mkdir -p build && quietly apt-get update
fi

for line in "${missing[@]}"; do
  IFS='|' read -r program package use <<< "$line"
  if [ -n "$may_install" ]; then
    echo "Installing Debian's package $package, for the tests of: $use"
    # One by one: a system that lacks one of them can have the others.
    quietly apt-get install --yes --no-install-recommends "$package" && works "$program" && continue
    echo "  it could not be installed, see $log"
  fi
  echo "There is no ${program%% *} (Debian's package $package), so these tests are skipped: $use"
done
exit 0
