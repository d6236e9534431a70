import pandas as pd

frame = pd.DataFrame({"quarter": ["Q1", "Q2"], "revenue": [100, 130]})
frame.to_excel("report.xlsx", index=False)
back = pd.read_excel("report.xlsx")
assert back.equals(frame)
print(back.to_string(index=False))
