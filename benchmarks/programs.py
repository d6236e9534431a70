"""What is run: programs as models write them, each the same for the product, its floor and any rival."""

PRINT = "print(1)"
NUMPY = """
import numpy as np
print(np.linalg.norm(np.arange(10_000.0).reshape(100, 100)))
"""
PANDAS = """
import pandas as pd
frame = pd.DataFrame({"key": [n % 7 for n in range(10_000)], "value": range(10_000)})
print(frame.groupby("key").value.mean())
"""
PLOT = """
import os
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
plt.plot([1, 3, 2])
plt.savefig(os.path.join(os.environ.get("OUTPUT_PATH", "."), "plot.png"))
plt.close()
print("saved")
"""
FIGURE = """
import io
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(8, 6), dpi=100)
axes.plot([1, 3, 2])
"""
SAVED_FIGURE = f"{FIGURE}figure.savefig(io.BytesIO())\nplt.close()\n"
# Little work in an interpreter that has the package imported already: what a fork of its heap costs.
WITH_PANDAS = "import pandas\nprint(1)"
WITH_MATPLOTLIB = "import matplotlib.pyplot\nprint(1)"
SLEEP = "import time\ntime.sleep(0.5)\nprint(1)"
PACKAGES = ("numpy", "pandas", "matplotlib")
