import sys
import pandas as pd

df = pd.read_csv(sys.argv[1])
print(df.isna().sum())
before = len(df)
df = df.dropna(subset=["units"]).astype({"units": int})
print(f"Dropped {before - len(df)} of {before} rows")
df.to_csv("clean.csv", index=False)
df.describe()
