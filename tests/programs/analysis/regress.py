import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 3))
y = X @ [1.5, -2.0, 0.5] + rng.normal(scale=0.1, size=200)
scores = cross_val_score(LinearRegression(), X, y, cv=5)
model = LinearRegression().fit(X, y)
print("R2 per fold:", scores.round(3))
dict(zip(["a", "b", "c"], model.coef_.round(2).tolist()))
