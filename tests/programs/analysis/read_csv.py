import io
import pandas as pd

sales = pd.read_csv(io.StringIO("city,month,amount\nBern,1,10\nBern,2,20\nGenf,1,5\nGenf,2,\n"))
print(sales.isna().sum().to_dict())
sales.groupby("city")["amount"].agg(["count", "sum", "mean"])
