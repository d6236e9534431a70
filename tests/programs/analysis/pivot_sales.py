import sys
import pandas as pd

df = pd.read_csv(sys.argv[1])
df.pivot_table(index="region", columns="product", values="units", aggfunc="sum", margins=True)
