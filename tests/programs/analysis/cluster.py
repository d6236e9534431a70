from sklearn.cluster import KMeans
from sklearn.datasets import load_iris

iris = load_iris(as_frame=True)
labels = KMeans(n_clusters=3, n_init=10, random_state=0).fit_predict(iris.data)
iris.frame.groupby(labels)["target"].value_counts().unstack(fill_value=0)
