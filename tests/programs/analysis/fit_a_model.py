from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

features, species = load_iris(return_X_y=True)
scores = cross_val_score(LogisticRegression(max_iter=1000), features, species, cv=5)
print(f"accuracy {scores.mean():.3f}")
