import re
import sys
from collections import Counter

with open(sys.argv[1]) as file:
    words = re.findall(r"[a-z]+", file.read().lower())
Counter(words).most_common(5)
