import matplotlib.pyplot as plt
import numpy as np

x = np.linspace(0, 6, 200)
for factor in (1, 2):
    plt.plot(x, np.sin(factor * x), label=f"sin({factor}x)")
plt.legend()
plt.show()
print("drawn")
