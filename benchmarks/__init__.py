"""How fast the product is, against floors measured in the same run."""
