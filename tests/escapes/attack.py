"""How an attack is run: to its end, with everything it said."""

from tests.bench import Bench

DONE = "attack-ran-to-its-end"


async def attack(bench: Bench, code: str) -> str:
    """What attacking code said on any way out. Its exceptions are its own output; it must reach its end."""
    body = "\n".join("    " + line for line in code.strip().splitlines())
    result = await bench.run(
        f"import traceback\ntry:\n{body}\nexcept BaseException:\n    traceback.print_exc()\nprint({DONE!r})"
    )
    assert DONE in result.stdout, result
    return f"{result.stdout}\n{result.stderr}\n{result.error}\n{result.result}"
