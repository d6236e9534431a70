import sys
import pandas as pd

df = pd.read_csv(sys.argv[1], parse_dates=["date"]).set_index("date")
monthly = df["units"].resample("ME").sum()
print(monthly.head())
print("Three months' mean:")
monthly.rolling(3).mean().dropna().round(1).tail(3)
