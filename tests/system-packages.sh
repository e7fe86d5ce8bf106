#!/usr/bin/env bash
# The programs that some tests use beside Python's packages. As root on Debian or Ubuntu the missing ones are
# installed; elsewhere, and where that fails, this says which tests will be skipped. It never fails itself.
set -uo pipefail

# program (and how to see that it works) | Debian package | what the tests do with it
wanted=(
  "chromium --version|chromium|open report.html and the web page in a browser"
  "java -version|default-jre-headless|METEOR in gpucapt evaluate"
  "ffmpeg -version|ffmpeg|make H.264 videos, and those with a rotation or a variable frame rate"
  "aws --version|awscli|put files into object storage as users do"
)

works() { $1 > /dev/null 2>&1 < /dev/null; }

missing=()
for line in "${wanted[@]}"; do
  works "${line%%|*}" || missing+=("$line")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

updated=""
install() {
  [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || return 1
  if [ -z "$updated" ]; then
    updated=yes
    apt-get update -qq < /dev/null > /dev/null 2>&1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "$1" < /dev/null > /dev/null 2>&1
}

for line in "${missing[@]}"; do
  IFS='|' read -r program package why <<< "$line"
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "Installing the Debian package $package (to $why)"
  fi
  if ! install "$package" || ! works "$program"; then
    echo "Without ${program%% *}, tests that need it are skipped (to $why); Debian's package is $package"
  fi
done
exit 0
