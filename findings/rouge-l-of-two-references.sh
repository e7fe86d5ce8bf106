#!/usr/bin/env bash
# pycocoevalcap 1.2: ROUGE-L of a caption that equals none of its references is 1.
#
# Expected: of several references the best counts, as ROUGE's own multi-reference scores do, so that 1 means "equals one".
# Seen:     the best precision and the best recall are taken from whatever reference has them, and put into one F-measure. A
#   short reference gives recall 1, a long one precision 1: "a dog runs" has 1 beside "a dog" and "a dog runs on the beach
#   with a ball", with each of which alone it has less. Scores so rise with the number of references, and with how different
#   their lengths are.
# For:      whoever compares ROUGE-L between data sets, or with another package's.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps pycocoevalcap==1.2 numpy==2.3.5

cat > "$work/score.py" <<'PYTHON'
from importlib.metadata import version

from pycocoevalcap.rouge.rouge import Rouge

print("pycocoevalcap", version("pycocoevalcap"))
short, long = "a dog", "a dog runs on the beach with a ball"
for name, references in (("short", [short]), ("long", [long]), ("both", [short, long])):
    score, _ = Rouge().compute_score({1: references}, {1: ["a dog runs"]})
    print(f"{name} {score:.4f}")
PYTHON

"$work/venv/bin/python" "$work/score.py" | tee "$work/seen"
grep -q '^short 0\.' "$work/seen"
grep -q '^long 0\.' "$work/seen"
grep -qx 'both 1\.0000' "$work/seen"
