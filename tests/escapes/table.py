"""Which cases succeed when one wall is taken down: by the wall, the case's file and name."""

WITHOUT: dict[str, frozenset[str]] = {
    "bubblewrap": frozenset(),
    "namespaces": frozenset(),
    "landlock": frozenset(),
    "seccomp": frozenset(),
}
