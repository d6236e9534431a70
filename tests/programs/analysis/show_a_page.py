import pandas as pd

pd.DataFrame({"n": [1, 2]}).style.background_gradient()
