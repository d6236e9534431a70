import sys
import pandas as pd

df = pd.read_csv(sys.argv[1], parse_dates=["date"])
df.info()
df["revenue"] = df["units"] * df["price"]
df.groupby("product")["revenue"].agg(["count", "sum", "mean"]).round(2)
