import sys
import matplotlib.pyplot as plt
import pandas as pd

df = pd.read_csv(sys.argv[1]).dropna()
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
df.groupby("region")["units"].sum().plot.bar(ax=left, title="Units by region")
right.hist(df["units"], bins=12)
right.set_title("Units per order")
fig.tight_layout()
fig.savefig("sales.png", dpi=80)
plt.show()
