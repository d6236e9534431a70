import os

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

frame = pd.DataFrame({"group": list("aabbcc"), "value": [1, 2, 3, 5, 8, 13]})
sns.barplot(frame, x="group", y="value", errorbar=None)
plt.savefig(os.path.join(os.environ.get("OUTPUT_PATH", "."), "bars.png"))
plt.close()
