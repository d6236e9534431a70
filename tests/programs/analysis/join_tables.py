import pandas as pd

people = pd.DataFrame({"id": [1, 2, 3], "name": ["Ada", "Bo", "Cy"]})
orders = pd.DataFrame({"person": [1, 1, 3, 9], "total": [10.5, 20.0, 7.25, 1.0]})
joined = people.merge(orders, left_on="id", right_on="person", how="outer", indicator=True)
joined["_merge"].value_counts()
