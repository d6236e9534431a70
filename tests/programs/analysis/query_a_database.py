import csv
import sqlite3
import sys

db = sqlite3.connect("sales.db")
db.execute("create table sales (date text, region text, product text, units integer, price real)")
with open(sys.argv[1], newline="") as file:
    rows = csv.reader(file)
    next(rows)
    db.executemany("insert into sales values (?, ?, ?, nullif(?, ''), ?)", rows)
db.commit()
for row in db.execute("select region, sum(units), round(sum(units * price), 2) from sales group by region order by 1"):
    print(*row, sep="\t")
