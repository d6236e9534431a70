import sys
import numpy as np
import pandas as pd

units = pd.read_csv(sys.argv[1])["units"].dropna().to_numpy()
units = np.append(units, [250.0, 310.0])
low, high = np.percentile(units, [25, 75])
limit = high + 1.5 * (high - low)
units[units > limit], float(limit)
