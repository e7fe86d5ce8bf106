#!/usr/bin/env bash
# pathspec 1.1.1: a pattern misses files in folders whose names hold a line break, where git finds them.
#
# Expected: the pattern "x.jpg" names the file x.jpg in whatever folder, as in a .gitignore; pathspec is made to read those.
# Seen:     it becomes the regular expression ^(?:.+/)?x\.jpg(?:/|$) without DOTALL: "." stops at a line break, so the file
#   in such a folder is not named. And "$" also stands before a line break at the end: a file "x.jpg\n", which is another
#   one, is named. git answers both as one expects (asked where it is installed).
# For:      whoever leaves files out by pathspec (black, hatch, DVC, Airflow's .airflowignore and many more): what was to be
#   left out is taken, without a word. Names of files may hold anything but "/" and NUL.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps pathspec==1.1.1

cat > "$work/match.py" <<'PYTHON'
from importlib.metadata import version

from pathspec import GitIgnoreSpec

print("pathspec", version("pathspec"))
spec = GitIgnoreSpec.from_lines(["x.jpg"])
for path in ("one line/x.jpg", "two\nlines/x.jpg", "x.jpg\n"):
    print(f"{path!r}: {spec.match_file(path)}")
PYTHON

"$work/venv/bin/python" "$work/match.py" | tee "$work/said"
grep -qx "'one line/x.jpg': True" "$work/said"
grep -qxF "'two\\nlines/x.jpg': False" "$work/said"
grep -qxF "'x.jpg\\n': True" "$work/said"

if command -v git > "$work/null"; then
    git init --quiet "$work/repository"
    cd "$work/repository"
    echo x.jpg > .git/info/exclude
    git check-ignore --quiet --no-index "$(printf 'two\nlines/x.jpg')" && echo "git: the file in two\\nlines is named"
    status=0
    git check-ignore --quiet --no-index $'x.jpg\n' || status=$?
    test "$status" = 1 && echo 'git: x.jpg\n is not named'
fi
