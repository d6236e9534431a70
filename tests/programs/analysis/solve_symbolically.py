import sympy as sp

x = sp.symbols("x")
print(sp.integrate(sp.exp(-x**2), (x, -sp.oo, sp.oo)))
sp.solve(x**3 - 6 * x**2 + 11 * x - 6, x)
