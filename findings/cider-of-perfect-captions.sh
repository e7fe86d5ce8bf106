#!/usr/bin/env bash
# pycocoevalcap 1.2: CIDEr of a perfect caption is 0, 7.5 or 10, depending on its length and on the other pictures.
#
# Expected: a caption that is its reference word for word has the highest score, whatever is scored beside it.
# Seen:     words are weighted by how few of the pictures scored in the same call have them. Of one picture alone, or of
#   pictures with the same reference, every word is in all of them: 0. Beside another picture it is 10, but of three words
#   7.5, of two 5, of one 2.5, as n-grams of 1 to 4 words are averaged also where a caption is too short to have them. (BLEU-4
#   of a perfect caption of three words is 0.03 for the same reason.)
# For:      whoever scores pictures one by one, in batches, or in languages and data sets with short captions.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps pycocoevalcap==1.2 numpy==2.3.5

cat > "$work/score.py" <<'PYTHON'
from importlib.metadata import version

from pycocoevalcap.cider.cider import Cider

print("pycocoevalcap", version("pycocoevalcap"))
words = "a brown dog runs on the beach".split()


def perfect(*captions):
    """CIDEr of the first picture, where each picture's caption is its only reference."""
    texts = {number: [caption] for number, caption in enumerate(captions)}
    return Cider().compute_score(texts, texts)[1][0]


print(f"alone {perfect(' '.join(words)):.2f}")
print(f"beside the same {perfect(' '.join(words), ' '.join(words)):.2f}")
for count in (1, 2, 3, 4, 7):
    print(f"{count} words beside another {perfect(' '.join(words[:count]), 'two men sit near some water'):.2f}")
PYTHON

"$work/venv/bin/python" "$work/score.py" | tee "$work/seen"
grep -qx 'alone 0\.00' "$work/seen"
grep -qx 'beside the same 0\.00' "$work/seen"
grep -qx '3 words beside another 7\.50' "$work/seen"
grep -qx '7 words beside another 10\.00' "$work/seen"
